//! Gives dead sagas up when their dead job expires, and makes them compensate when their deadline passes.

use sqlx::PgConnection;

use crate::{
    model::{
        cause::CancelOrigin,
        dead_job::DeadJobResolution,
        error::StepError,
        ids::SagaId,
        status::{Direction, Status},
        transition::{DiscardEffect, Event, discard, transition},
        views::HistoryOutcome,
    },
    operate::decision::LoadedSaga,
    runtime::{core::Core, effects::CommitEffects},
    store::{self, decisions::SagaLock},
};

/// The actor that is recorded for decisions of the engine.
const ENGINE: &str = "engine";
/// The reason that is recorded for an expired dead job.
const UNATTENDED: &str = "no operator acted on its dead job before its time to live was over";

/// What happens to a saga whose dead job expired.
pub(crate) enum Expired {
    /// The saga compensates, or has ended.
    GivenUp(CommitEffects),
    /// The saga died while compensating, or has children that have not ended, and only an operator may give it up.
    Waits,
    /// This process does not know the saga's graph; another process may.
    Unknown,
    /// The saga is not dead, or has ended, which contradicts its dead job. `sagaline doctor` reports such rows.
    NotDead,
}

/// Gives a saga up whose dead job expired, unless that would leave effects that are not undone. The caller updates the
/// dead job.
pub(crate) async fn expire(
    core: &Core,
    conn: &mut PgConnection,
    saga_id: SagaId,
) -> Result<Expired, StepError> {
    let Some(saga) = dead(core, conn, saga_id).await? else { return Ok(Expired::NotDead) };
    if !saga.is_registered() {
        return Ok(Expired::Unknown);
    }
    let (event, outcome) = match discard(saga.graph(), &saga.state) {
        DiscardEffect::Abandon if saga.state.direction == Direction::Undo => return Ok(Expired::Waits),
        DiscardEffect::Abandon => return Ok(Expired::Unknown),
        DiscardEffect::Compensate => {
            let (actor, reason, origin) = (ENGINE.into(), UNATTENDED.into(), CancelOrigin::Expired);
            (Event::Cancel { actor, reason, origin }, HistoryOutcome::Cancelled)
        }
        // They would go on without it: only an operator may decide that.
        DiscardEffect::Finish if store::children::count_open(conn, saga_id.0).await?.open > 0 => {
            return Ok(Expired::Waits);
        }
        DiscardEffect::Finish => (Event::Discarded, HistoryOutcome::Discarded),
    };
    let Ok((state, _)) = transition(saga.graph(), &saga.state, &event) else {
        return Ok(Expired::NotDead);
    };
    saga.apply(core, conn, state, outcome, format!("expired: {UNATTENDED}")).await.map(Expired::GivenUp)
}

/// Makes a dead saga compensate whose deadline passed; `None` if it is no longer dead, or can't compensate.
pub(crate) async fn pass_deadline(
    core: &Core,
    conn: &mut PgConnection,
    saga_id: SagaId,
) -> Result<Option<CommitEffects>, StepError> {
    let Some(saga) = dead(core, conn, saga_id).await?.filter(LoadedSaga::is_registered) else {
        return Ok(None);
    };
    let Ok((state, _)) = transition(saga.graph(), &saga.state, &Event::DeadlinePassed) else {
        return Ok(None);
    };
    let why = "the deadline passed";
    store::dead_jobs::resolve(conn, saga_id.0, DeadJobResolution::DeadlinePassed, ENGINE, why).await?;
    saga.apply(core, conn, state, HistoryOutcome::DeadlinePassed, why.into()).await.map(Some)
}

/// Locks a saga; `None` if it is not dead, or has ended.
async fn dead(
    core: &Core,
    conn: &mut PgConnection,
    saga_id: SagaId,
) -> Result<Option<LoadedSaga>, sqlx::Error> {
    let Some(row) = store::decisions::load(conn, saga_id.0, SagaLock::Wait).await? else { return Ok(None) };
    let saga = LoadedSaga::new(core, conn, saga_id, row).await?;
    Ok((saga.state.status == Status::Dead && !saga.row.ended).then_some(saga))
}
