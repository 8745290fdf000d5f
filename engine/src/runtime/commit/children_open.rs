//! Opens the children of a step, and answers for it when all of them have ended.

use sqlx::PgConnection;

use crate::{
    definition::{
        children::{ChildrenAction, StoredEnd},
        new_saga::NewSaga,
        step_answer::StepAnswer,
    },
    model::{
        child::{ChildOf, EachEnded},
        error_chain::ErrorChain,
        ids::SagaId,
        outcome::{Failure, Outcome},
    },
    runtime::{
        commit::{
            child_ends::{child_is_gone, failed_child, stored_end},
            children::Decided,
            children_wait::ChildrenWait,
            cursor::SagaCursor,
        },
        core::Core,
        definition_trees::DEEPEST,
        start::validate,
    },
    store::{self, children::ChildCounts},
};

impl SagaCursor<'_> {
    pub(super) async fn open_or_wait(
        &self,
        core: &Core,
        conn: &mut PgConnection,
        action: &ChildrenAction,
        counts: ChildCounts,
        room: &mut usize,
    ) -> Result<Decided, sqlx::Error> {
        let total = match action.total(&self.values) {
            Ok(total) => total,
            Err(uncomputed) => return Ok(Decided::Answer(uncomputed.into())),
        };
        if total > ChildrenAction::MOST {
            let why = format!("it has {total} items, and may have {}", ChildrenAction::MOST);
            return Ok(failed(Failure::new(Failure::TOO_MANY_CHILDREN, why)));
        }
        if counts.failed > 0 && !action.settled {
            let first = store::children::first_failed(conn, self.as_parent()).await?;
            return Ok(failed(first.map_or_else(child_is_gone, |first| failed_child(first).failure())));
        }
        let opened = usize::try_from(counts.opened).unwrap_or_default();
        let open = usize::try_from(counts.open).unwrap_or(usize::MAX);
        if opened > total {
            let why = format!("`{}` has {total} children now, and has opened {opened}", self.step_name);
            return Ok(Decided::Answer(StepAnswer::InputUnreadable(why)));
        }
        let positions = self.to_open(conn, action, (opened, open, total), (counts.stale > 0, *room)).await?;
        if !positions.is_empty() {
            if self.job.ancestry.depth.unsigned_abs() >= DEEPEST {
                let why = format!("a saga may have {DEEPEST} ancestors, and its children would have more");
                return Ok(failed(Failure::new(Failure::TOO_DEEP, why)));
            }
            *room = room.saturating_sub(positions.len());
            return Ok(match self.children_at(core, action, &positions) {
                Ok(children) => Decided::Open(children),
                Err(answer) => Decided::Answer(answer),
            });
        }
        let is_all_open = opened == total && counts.stale == 0;
        if is_all_open && open == 0 {
            let joined = self.joined(conn, action, (total, counts.failed)).await?;
            return Ok(Decided::Answer(joined.within(core.settings.max_payload, &self.step_name)));
        }
        if *room == 0 && !is_all_open && open <= action.refills_at() {
            return Ok(Decided::Wait(None));
        }
        let at_open = if is_all_open { 0 } else { action.refills_at() };
        Ok(Decided::Wait(Some(ChildrenWait { at_open, at_failure: !action.settled })))
    }

    /// The positions that are to be opened now, at most `room`: those whose child of an earlier round did not complete,
    /// or the next ones when half of the open children have ended.
    async fn to_open(
        &self,
        conn: &mut PgConnection,
        action: &ChildrenAction,
        (opened, open, total): (usize, usize, usize),
        (is_stale, room): (bool, usize),
    ) -> Result<Vec<usize>, sqlx::Error> {
        if room == 0 || (open > action.refills_at() && open > 0) {
            return Ok(Vec::new());
        }
        let free = action.window().saturating_sub(open).min(room);
        if is_stale {
            let limit = i64::try_from(free).unwrap_or(i64::MAX);
            let again = store::children::to_reopen(conn, self.as_parent(), limit).await?;
            if !again.is_empty() {
                return Ok(again.into_iter().filter_map(|position| usize::try_from(position).ok()).collect());
            }
        }
        Ok((opened..total.min(opened + free)).collect())
    }

    fn children_at(
        &self,
        core: &Core,
        action: &ChildrenAction,
        positions: &[usize],
    ) -> Result<Vec<NewSaga>, StepAnswer> {
        let mut children = Vec::with_capacity(positions.len());
        let root_id = self.job.ancestry.root_id.unwrap_or(self.job.saga_id.0);
        let computed = action.at(&self.values, positions).map_err(StepAnswer::from)?;
        if computed.len() != positions.len() {
            return Err(StepAnswer::InputUnreadable(format!(
                "`{}` computed {} children, and then others",
                self.step_name,
                positions.len()
            )));
        }
        for (position, child) in positions.iter().zip(computed) {
            let child_of = ChildOf {
                parent_id: self.job.saga_id,
                root_id: SagaId(root_id),
                step: self.step_name.clone(),
                round: self.state.round,
                position: u32::try_from(*position).unwrap_or(u32::MAX),
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
