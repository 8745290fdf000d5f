//! Enforces the deadlines of dead sagas. No worker claims a dead saga, so a separate query finds those that are
//! overdue.

use crate::{
    engine::Engine,
    model::{error::StepError, ids::SagaId, kinds::Placement},
    operate::give_up,
    runtime::{
        core::Core,
        effects::{self, CommitEffects},
        quarantine::Work,
    },
    store::{self, rows::Rows},
    support::connection::concerns_everybody,
};

impl Engine {
    /// Makes dead sagas compensate whose deadline passed before their pivot, at most `limit`; returns how many. A
    /// process that works on queues calls this by itself.
    ///
    /// # Errors
    /// When the database can't be reached; sagas that already compensate by then continue to do so.
    pub async fn compensate_overdue(&self, limit: u32) -> Result<u32, sqlx::Error> {
        compensate(&self.core, limit).await
    }
}

pub(crate) async fn compensate(core: &Core, limit: u32) -> Result<u32, sqlx::Error> {
    let steps_at = |placement| {
        let nodes = core.definitions.all().flat_map(|definition| {
            definition.graph.steps.iter().map(|node| (definition.graph.hash.as_str(), node))
        });
        nodes
            .filter(|(_, node)| node.placement == placement)
            .map(|(hash, node)| format!("{hash}/{}", node.name))
            .collect::<Vec<_>>()
    };
    let (before, pivots) = (steps_at(Placement::BeforePivot), steps_at(Placement::Pivot));
    let mut compensating = 0;
    let resting = core.quarantine.resting(Work::Expire);
    let rows = Rows::all_but(&resting);
    for saga_id in store::dead_jobs::overdue(&core.pool, &before, &pivots, limit, rows).await? {
        match compensate_one(core, SagaId(saga_id)).await {
            Ok(Some(after)) => {
                tracing::info!(saga.id = %saga_id, "a dead saga compensates: its deadline passed");
                core.quarantine.accept(Work::Expire, [saga_id]);
                effects::publish(core, after);
                compensating += 1;
            }
            Ok(None) => {}
            Err(StepError::Database(error)) if concerns_everybody(&error) => return Err(error),
            Err(error) => core.quarantine.refuse(Work::Expire, saga_id, &error),
        }
    }
    Ok(compensating)
}

/// Makes one saga compensate; `None` if another transaction holds it, or has already acted on it.
async fn compensate_one(core: &Core, saga_id: SagaId) -> Result<Option<CommitEffects>, StepError> {
    let mut transaction = core.pool.begin().await?;
    if !store::archive::lock_saga(&mut transaction, saga_id.0).await? {
        return Ok(None);
    }
    let after = give_up::pass_deadline(core, &mut transaction, saga_id).await?;
    if after.is_some() {
        transaction.commit().await?;
    }
    Ok(after)
}
