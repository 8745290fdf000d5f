//! Reads the items of a step with children in pages, in the transaction that opens the children. It is the author's code
//! that does so: it can't write, it has a time limit, and what fails is that saga's attempt.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use crate::{
    definition::{
        new_saga::NewSaga,
        paged::{NoPage, PageAsked, PageSource},
        step_answer::StepAnswer,
    },
    model::{
        error::StepError,
        outcome::{Outcome, Retry, chain},
    },
    runtime::{
        commit::{
            children_open::Opening,
            children_room::Room,
            cursor::SagaCursor,
            error::{CommitError, classify, classify_write},
        },
        effects::Session,
    },
    store,
    support::{connection::is_fault_of_reader, user_code::run_user_code},
};

impl SagaCursor<'_> {
    /// Reads the page of at most `limit` items that follows those which were opened.
    pub(super) async fn next_page(
        &self,
        session: &mut Session<'_>,
        conn: &mut PgConnection,
        pages: &dyn PageSource,
        (opened, limit): (usize, usize),
        room: &mut Room,
    ) -> Result<Opening, CommitError> {
        let Some(time) = room.time_to_read(&session.core.settings, self.policy().timeout) else {
            return Ok(Opening::Later);
        };
        let ends = if opened == 0 {
            None
        } else {
            let classified = |error| classify_write(error, Some(self.state.side()));
            let positions = [0, position(opened - 1)];
            let inputs =
                store::children::inputs(conn, self.as_parent(), &positions).await.map_err(classified)?;
            let (Some((_, first)), Some((_, last))) = (inputs.first(), inputs.last()) else {
                let why = format!("`{}` has opened {opened} children, and they are gone", self.step_name);
                return Ok(Opening::Refused(StepAnswer::InputUnreadable(why)));
            };
            Some((first.0.clone().into(), last.0.clone().into()))
        };
        let began = Instant::now();
        let page = self.read(session, conn, pages, PageAsked { opened, ends, limit }, time).await?;
        room.has_read(began.elapsed());
        Ok(match page {
            Ok(children) if children.is_empty() => Opening::End,
            Ok(children) => Opening::Children((opened..).zip(children).collect()),
            Err(answer) => Opening::Refused(answer),
        })
    }

    /// Runs the author's code, which can't write. What it has changed in its session all the same is taken back.
    async fn read(
        &self,
        session: &mut Session<'_>,
        conn: &mut PgConnection,
        pages: &dyn PageSource,
        asked: PageAsked,
        time: Duration,
    ) -> Result<Result<Vec<NewSaga>, StepAnswer>, CommitError> {
        let side = Some(self.state.side());
        let reading = session.savepoints.begin_reading(conn).await;
        let reading = reading.map_err(|error| classify_write(error, side))?;
        let page = run_user_code(time, async { pages.page(conn, &self.values, asked).await }).await;
        let page = page.map_err(|failure| CommitError::Step {
            side,
            error: vec![format!("what reads the items of `{}` {failure}", self.step_name)],
            cancelled_mid_statement: true,
        })?;
        let page = match page {
            Err(NoPage::Failed(StepError::Database(error))) if !is_fault_of_reader(&error) => {
                return Err(classify(StepError::Database(error), side));
            }
            page => page.map_err(StepAnswer::from),
        };
        let ended = session.savepoints.end_reading(conn, reading).await;
        ended.map_err(|error| classify_write(error, side))?;
        Ok(page)
    }

    /// The children that are to be opened anew at these positions. Their inputs are those of the children before, whatever
    /// has become of the items.
    pub(super) async fn again(
        &self,
        conn: &mut PgConnection,
        pages: &dyn PageSource,
        positions: &[i32],
    ) -> Result<Vec<(usize, NewSaga)>, sqlx::Error> {
        let inputs = store::children::inputs(conn, self.as_parent(), positions).await?;
        let again = inputs.into_iter().filter_map(|(position, input)| {
            Some((usize::try_from(position).ok()?, pages.again(input.0.into())))
        });
        Ok(again.collect())
    }
}

fn position(position: usize) -> i32 {
    i32::try_from(position).unwrap_or(i32::MAX)
}

impl From<NoPage> for StepAnswer {
    fn from(no_page: NoPage) -> Self {
        match no_page {
            NoPage::Unreadable(error) => Self::InputUnreadable(error),
            NoPage::Wrong(failure) => Self::Outcome(Outcome::Fail(failure)),
            NoPage::Failed(error) => Self::Outcome(Outcome::Retry(Retry::of(chain(&error)))),
        }
    }
}
