//! Opens the children of a step, and answers for it when all of them have ended.

use sqlx::PgConnection;

use crate::{
    definition::{
        children::{ChildrenAction, StoredEnd},
        new_saga::NewSaga,
        step_answer::StepAnswer,
    },
    model::{
        child::{ChildOf, EachEnded, MOST_CHILDREN, too_many_children},
        error_chain::ErrorChain,
        ids::SagaId,
        outcome::{Failure, Outcome},
    },
    runtime::{
        commit::{
            child_ends::{child_is_gone, failed_child, stored_end},
            children::Decided,
            children_room::Room,
            children_wait::ChildrenWait,
            cursor::SagaCursor,
            error::{CommitError, classify_write},
        },
        core::Core,
        definition_trees::DEEPEST,
        effects::Session,
        start::validate,
    },
    store::{self, children::ChildCounts},
};

/// What a step does about children that have not been opened.
pub(super) enum Opening {
    /// It opens these, with their positions.
    Children(Vec<(usize, NewSaga)>),
    /// There are enough open, or this transaction has opened as many as it may.
    Nothing,
    /// It looks again in another transaction.
    Later,
    /// No item is left.
    End,
    /// It does not come to that.
    Refused(StepAnswer),
}

/// How many children a step has opened, how many of them are open, and how many there are in all, if that is known.
#[derive(Clone, Copy)]
struct SoFar {
    opened: usize,
    open: usize,
    known: Option<usize>,
    /// Whether some are to be opened anew.
    is_stale: bool,
}

impl SagaCursor<'_> {
    pub(super) async fn open_or_wait(
        &self,
        session: &mut Session<'_>,
        conn: &mut PgConnection,
        action: &ChildrenAction,
        counts: ChildCounts,
        room: &mut Room,
    ) -> Result<Decided, CommitError> {
        let classified = |error| classify_write(error, Some(self.state.side()));
        let known = match action.total(&self.values) {
            Ok(known) => known,
            Err(uncomputed) => return Ok(Decided::Answer(uncomputed.into())),
        };
        if let Some(total) = known.filter(|total| *total > MOST_CHILDREN) {
            return Ok(failed(too_many_children(&total.to_string())));
        }
        if counts.failed > 0 && !action.settled {
            let first = store::children::first_failed(conn, self.as_parent()).await.map_err(classified)?;
            return Ok(failed(first.map_or_else(child_is_gone, |first| failed_child(first).failure())));
        }
        let opened = usize::try_from(counts.opened).unwrap_or_default();
        let open = usize::try_from(counts.open).unwrap_or(usize::MAX);
        if let Some(total) = known.filter(|total| opened > *total) {
            let why = format!("`{}` has {total} children now, and has opened {opened}", self.step_name);
            return Ok(Decided::Answer(StepAnswer::InputUnreadable(why)));
        }
        let so_far = SoFar { opened, open, known, is_stale: counts.stale > 0 };
        let opening = self.opening(session, conn, action, so_far, room).await?;
        let is_end = matches!(opening, Opening::End) || known == Some(opened);
        match opening {
            Opening::Children(_) if self.job.ancestry.depth.unsigned_abs() >= DEEPEST => {
                let why = format!("a saga may have {DEEPEST} ancestors, and its children would have more");
                return Ok(failed(Failure::new(Failure::TOO_DEEP, why)));
            }
            Opening::Children(children) => {
                room.children = room.children.saturating_sub(children.len());
                let children = self.as_children(session.core, children);
                return Ok(children.map_or_else(Decided::Answer, Decided::Open));
            }
            Opening::Refused(answer) => return Ok(Decided::Answer(answer)),
            Opening::Later => return Ok(Decided::Later),
            Opening::Nothing | Opening::End => {}
        }
        let is_all_open = is_end && counts.stale == 0;
        if is_all_open && open == 0 {
            let joined = self.joined(conn, action, (opened, counts.failed)).await.map_err(classified)?;
            return Ok(Decided::Answer(joined.within(session.core.settings.max_payload, &self.step_name)));
        }
        if room.children == 0 && !is_all_open && open <= action.refills_at() {
            return Ok(Decided::Wait(None));
        }
        let at_open = if is_all_open { 0 } else { action.refills_at() };
        Ok(Decided::Wait(Some(ChildrenWait { at_open, at_failure: !action.settled })))
    }

    /// What is to be opened now, as far as there is room: the positions whose child of an earlier round did not complete,
    /// or the next items when half of the open children have ended.
    async fn opening(
        &self,
        session: &mut Session<'_>,
        conn: &mut PgConnection,
        action: &ChildrenAction,
        SoFar { opened, open, known, is_stale }: SoFar,
        room: &mut Room,
    ) -> Result<Opening, CommitError> {
        if room.children == 0 || (open > action.refills_at() && open > 0) {
            return Ok(Opening::Nothing);
        }
        let free = action.window().saturating_sub(open).min(room.children);
        if is_stale {
            let again = self.stale(conn, action, free).await;
            let again = again.map_err(|error| classify_write(error, Some(self.state.side())))?;
            if !matches!(again, Opening::Nothing) {
                return Ok(again);
            }
        }
        match (action.pages(), known) {
            (Some(pages), _) => self.next_page(session, conn, pages, (opened, free), room).await,
            (None, Some(total)) if opened < total => {
                Ok(self.computed(action, (opened..total.min(opened + free)).collect()))
            }
            (None, _) => Ok(Opening::Nothing),
        }
    }

    /// What is to be opened anew, at most so many.
    async fn stale(
        &self,
        conn: &mut PgConnection,
        action: &ChildrenAction,
        free: usize,
    ) -> Result<Opening, sqlx::Error> {
        let limit = i64::try_from(free).unwrap_or(i64::MAX);
        let positions = store::children::to_reopen(conn, self.as_parent(), limit).await?;
        if positions.is_empty() {
            return Ok(Opening::Nothing);
        }
        if let Some(pages) = action.pages() {
            return self.again(conn, pages, &positions).await.map(Opening::Children);
        }
        let positions = positions.into_iter().filter_map(|position| usize::try_from(position).ok());
        Ok(self.computed(action, positions.collect()))
    }

    /// The children at these positions, computed.
    fn computed(&self, action: &ChildrenAction, positions: Vec<usize>) -> Opening {
        match action.at(&self.values, &positions) {
            Ok(children) if children.len() == positions.len() => {
                Opening::Children(positions.into_iter().zip(children).collect())
            }
            Ok(_) => Opening::Refused(StepAnswer::InputUnreadable(format!(
                "`{}` computed {} children, and then others",
                self.step_name,
                positions.len()
            ))),
            Err(uncomputed) => Opening::Refused(uncomputed.into()),
        }
    }

    /// Gives sagas their places among the children of this one.
    fn as_children(&self, core: &Core, sagas: Vec<(usize, NewSaga)>) -> Result<Vec<NewSaga>, StepAnswer> {
        let mut children = Vec::with_capacity(sagas.len());
        let root_id = self.job.ancestry.root_id.unwrap_or(self.job.saga_id.0);
        for (position, child) in sagas {
            let child_of = ChildOf {
                parent_id: self.job.saga_id,
                root_id: SagaId(root_id),
                step: self.step_name.clone(),
                round: self.state.round,
                position: u32::try_from(position).unwrap_or(u32::MAX),
                depth: self.job.ancestry.depth.unsigned_abs() + 1,
            };
            // A refusal in the start would fail the whole batch.
            if let Err(error) = validate::check(core, &child) {
                let why = format!("its child {position} can't be started: {}", ErrorChain(&error));
                let failure = Failure::new(Failure::CHILD_FAILED, why);
                return Err(StepAnswer::Outcome(Outcome::Fail(failure)));
            }
            let trace = self.job.trace.as_deref().map(str::to_owned);
            children.push(child.trace_or(|| trace).child_of(child_of));
        }
        Ok(children)
    }

    /// The answer of the step when all children have ended.
    async fn joined(
        &self,
        conn: &mut PgConnection,
        action: &ChildrenAction,
        (total, failed): (usize, i64),
    ) -> Result<StepAnswer, sqlx::Error> {
        let output = if action.reads_ends() {
            let ended = store::children::ends(conn, self.job.saga_id.0, &self.step_name).await?;
            let ends: Vec<StoredEnd> = ended.into_iter().map(stored_end).collect();
            action.output(&ends)
        } else {
            let total = u32::try_from(total).unwrap_or(u32::MAX);
            let failed = u32::try_from(failed).unwrap_or(u32::MAX);
            ChildrenAction::counts(EachEnded { total, completed: total.saturating_sub(failed), failed })
        };
        Ok(match output {
            Ok(output) => StepAnswer::done(Some(output)),
            Err(error) => StepAnswer::InputUnreadable(format!("`{}`: {error}", self.step_name)),
        })
    }
}

fn failed(failure: Failure) -> Decided {
    Decided::Answer(StepAnswer::Outcome(Outcome::Fail(failure)))
}
