//! Has the children of a step undone.

use sqlx::PgConnection;

use crate::{
    definition::{children::ChildrenAction, step_answer::StepAnswer},
    model::pending_cancel::{CompensatingParent, PendingCancel},
    runtime::{
        commit::{children::Decided, children_wait::ChildrenWait, cursor::SagaCursor},
        effects::Session,
    },
    store::{self, children::ChildCounts},
};

impl SagaCursor<'_> {
    /// Has the children undone that were opened: those that run are cancelled, and those that have completed
    /// compensate.
    pub(super) async fn undo_children(
        &self,
        session: &mut Session<'_>,
        conn: &mut PgConnection,
        counts: ChildCounts,
    ) -> Result<Decided, sqlx::Error> {
        if counts.standing == 0 {
            return Ok(Decided::Answer(StepAnswer::done(None)));
        }
        let Some(cause) = self.state.cause.clone() else {
            let why = "the saga compensates, but its cause is not stored";
            return Ok(Decided::Answer(StepAnswer::InputUnreadable(why.into())));
        };
        // Each child gets a copy.
        let cause = cause.without_details();
        let cancel = PendingCancel::of_child(CompensatingParent { saga: self.job.saga_id, cause });
        let limit = ChildrenAction::OPENED_AT_ONCE;
        let told = store::children::compensate(
            conn,
            (self.job.saga_id.0, &self.step_name),
            &cancel,
            i64::try_from(limit).unwrap_or(i64::MAX),
        )
        .await?;
        session.effects.sent_cancels |= told.all > 0;
        // There may be more. Those that are told again are not, so that this can't go on without a pause.
        if told.first >= limit {
            return Ok(Decided::Wait(None));
        }
        Ok(Decided::Wait(Some(ChildrenWait { at_open: 0, at_failure: false })))
    }
}
