//! What the engine itself decides about dead sagas when a time is over: their dead job's, or their own deadline.

use sqlx::PgConnection;

use crate::{
    model::{
        error::StepError,
        ids::SagaId,
        outcome::CancelOrigin,
        status::{Direction, Status},
        transition::{DiscardEffect, Event, discard, transition},
        views::HistoryOutcome,
    },
    operate::decision::LockedSaga,
    runtime::{core::Core, effects::CommitEffects},
    store,
};

/// Who acts when nobody did.
const ENGINE: &str = "engine";
/// Why a saga is given up whose dead job expired.
const UNATTENDED: &str = "nobody acted on its dead job before the time to live was over";

/// What becomes of a saga whose dead job expired.
pub(crate) enum Expired {
    /// It compensates, or has ended.
    GivenUp(CommitEffects),
    /// It died while it compensated: no clock gives that up.
    Waits,
    /// Nobody here knows its step; perhaps another process does.
    Unknown,
    /// It is not dead, or has ended, whatever its dead job says: that is for the invariants to find.
    NotDead,
}

/// Gives up a saga whose dead job expired, where that leaves nothing undone. Its dead job is the caller's.
pub(crate) async fn expire(
    core: &Core,
    conn: &mut PgConnection,
    saga_id: SagaId,
) -> Result<Expired, StepError> {
    let Some(saga) = dead(core, conn, saga_id).await? else { return Ok(Expired::NotDead) };
    let (event, outcome) = match discard(saga.graph(), &saga.state) {
        DiscardEffect::Abandon if saga.state.direction == Direction::Undo => return Ok(Expired::Waits),
        DiscardEffect::Abandon => return Ok(Expired::Unknown),
        DiscardEffect::Compensate => {
            let (actor, reason, origin) = (ENGINE.into(), UNATTENDED.into(), CancelOrigin::Expired);
            (Event::Cancel { actor, reason, origin }, HistoryOutcome::Cancelled)
        }
        DiscardEffect::Finish => (Event::Discarded, HistoryOutcome::Discarded),
    };
    let Ok((state, _)) = transition(saga.graph(), &saga.state, &event) else {
        return Ok(Expired::NotDead);
    };
    saga.apply(core, conn, state, outcome, format!("expired: {UNATTENDED}")).await.map(Expired::GivenUp)
}

/// Has a dead saga compensate whose deadline passed; `None` when it is not dead any more, or can't compensate.
pub(crate) async fn pass_deadline(
    core: &Core,
    conn: &mut PgConnection,
    saga_id: SagaId,
) -> Result<Option<CommitEffects>, StepError> {
    let Some(saga) = dead(core, conn, saga_id).await? else { return Ok(None) };
    let Ok((state, _)) = transition(saga.graph(), &saga.state, &Event::DeadlinePassed) else {
        return Ok(None);
    };
    let why = "the deadline passed";
    store::dead_jobs::resolve(conn, saga_id.0, "deadline_passed", ENGINE, why).await?;
    saga.apply(core, conn, state, HistoryOutcome::DeadlinePassed, why.into()).await.map(Some)
}

/// Locks a saga that is dead and has not ended.
async fn dead(
    core: &Core,
    conn: &mut PgConnection,
    saga_id: SagaId,
) -> Result<Option<LockedSaga>, sqlx::Error> {
    let Some(row) = store::commits::lock(conn, saga_id.0).await? else { return Ok(None) };
    let saga = LockedSaga::new(core, saga_id, row)?;
    Ok((saga.state.status == Status::Dead && !saga.row.ended).then_some(saga))
}
