//! Moves sagas in progress to the newest graph of their definition: a plan says which can be moved, then it is carried out.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::{
    engine::Engine,
    model::{
        audit::{MOVE, Operator},
        ids::SagaId,
        outcome::chain,
        status::Direction,
    },
    operate::{
        dead_jobs::bulk::NOT_REACHED,
        decision::SagaGraph,
        in_flight::{PAGE, read_page},
    },
    runtime::effects::{self, CommitEffects},
    store::{
        self,
        audit::{AuditEntry, AuditReason},
        in_flight::NewGraph,
    },
    support::bounded_list::{ListCost, ListError, read_list},
    support::connection::{Blame, blame, concerns_everybody},
};

/// What moving the sagas of one graph would do. It is made by [`Engine::plan_move`] and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovePlan {
    /// The name of the definition.
    pub definition: String,
    /// The hash of the graph to which the sagas belong.
    pub from: String,
    /// The hash of the newest graph of the definition, to which they would be moved.
    pub to: String,
    /// The queue of that graph.
    pub queue: String,
    /// When the plan was made, by the database's clock.
    pub made_at: DateTime<Utc>,
    /// The sagas in flight of that graph, oldest first.
    pub sagas: Vec<PlannedMove>,
}

/// What moving would do to one saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMove {
    /// The saga.
    pub saga_id: SagaId,
    /// The step at which it stands.
    pub step: String,
    /// The side of that step.
    pub direction: Direction,
    /// Why it can't be moved; `None` if it can.
    pub refusal: Option<String>,
    /// Its state when the plan was made: a saga that has gone on since then is not moved.
    epoch: i64,
    history_seq: i32,
}

/// The result of moving sagas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MoveResult {
    /// The sagas that were moved, oldest first.
    pub moved: Vec<SagaId>,
    /// Those that were not, with the reason.
    pub skipped: Vec<(SagaId, String)>,
}

/// Why sagas can't be moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// No definition of this name is registered here.
    #[error("no saga is named `{0}` here")]
    UnknownDefinition(String),
    /// The graph is not stored, or belongs to another definition.
    #[error("saga `{definition}` has had no graph {hash}, or none that this build can read")]
    UnknownGraph {
        /// The name of the definition.
        definition: String,
        /// The hash of the graph.
        hash: String,
    },
    /// The database refused a statement or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

impl Engine {
    /// Says which sagas of an earlier graph of a definition could be moved to its newest one, which this process has
    /// registered. A saga can be moved if it is running, nobody holds it, its call is not in doubt, all steps that it has begun
    /// are the same in both graphs, and the newest code can read what they stored. The others go on with their own graph.
    ///
    /// # Errors
    /// See [`MoveError`].
    pub async fn plan_move(&self, definition: &str, from: &str, max: u32) -> Result<MovePlan, MoveError> {
        let newest = self.core.definitions.newest(definition);
        let newest = newest.ok_or_else(|| MoveError::UnknownDefinition(definition.into()))?;
        let made_at = self.now().await?;
        let mut conn = self.pool().acquire().await?;
        let graph = SagaGraph::find(&self.core, &mut conn, from).await?;
        drop(conn);
        if graph.graph().name != definition {
            return Err(MoveError::UnknownGraph { definition: definition.into(), hash: from.into() });
        }
        let is_newest = newest.graph.hash == from;
        let max = if is_newest { 0 } else { i64::from(max) };
        let listed = read_list(self.pool(), ListCost::MayScan, async |conn| {
            store::in_flight::ids_of_graph(conn, from, max).await
        });
        let ids = listed.await.map_err(ListError::into_database)?;
        let mut conn = self.pool().acquire().await?;
        let mut sagas = Vec::with_capacity(ids.len());
        for page in ids.chunks(PAGE) {
            let read = read_page(&self.core, &mut conn, page).await?;
            sagas.extend(read.into_iter().filter(|saga| saga.row.graph_hash == from).map(|saga| {
                PlannedMove {
                    refusal: saga.moves_to(newest).err(),
                    saga_id: SagaId(saga.row.id),
                    direction: saga.state.direction,
                    step: saga.row.step,
                    epoch: saga.row.epoch,
                    history_seq: saga.row.history_seq,
                }
            }));
        }
        let (definition, from, to) = (definition.into(), from.into(), newest.graph.hash.clone());
        Ok(MovePlan { definition, from, to, queue: newest.graph.queue.clone(), made_at, sagas })
    }

    /// Moves the sagas that a plan says can be moved, oldest first, each in its own transaction with its audit record.
    /// Skips one that has gone on since the plan was made, or that another transaction holds.
    ///
    /// # Errors
    /// When the database can't be reached; sagas that were moved before that stay moved.
    pub async fn carry_out_move(
        &self,
        plan: &MovePlan,
        time_limit: Duration,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<MoveResult, sqlx::Error> {
        let (began, by) = (Instant::now(), by.into());
        let mut result = MoveResult::default();
        for (nth, saga) in plan.sagas.iter().enumerate() {
            // The first is tried in any case, so that each call gets on.
            if nth > 0 && began.elapsed() >= time_limit {
                let rest = plan.sagas[nth..].iter().map(|saga| (saga.saga_id, NOT_REACHED.to_owned()));
                result.skipped.extend(rest);
                break;
            }
            if let Some(why) = &saga.refusal {
                result.skipped.push((saga.saga_id, why.clone()));
                continue;
            }
            let why = match self.move_saga(plan, saga, &by, reason).await {
                Ok(true) => {
                    result.moved.push(saga.saga_id);
                    None
                }
                Ok(false) => Some("it has gone on since the plan was made".to_owned()),
                Err(error) if concerns_everybody(&error) => return Err(error),
                Err(error) if blame(&error) == Blame::Lock => Some("another transaction holds it".to_owned()),
                Err(error) => Some(chain(&error).join(": ")),
            };
            result.skipped.extend(why.map(|why| (saga.saga_id, why)));
        }
        Ok(result)
    }

    async fn move_saga(
        &self,
        plan: &MovePlan,
        saga: &PlannedMove,
        by: &Operator<'_>,
        reason: &str,
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.pool().begin().await?;
        let place = (saga.saga_id.0, saga.epoch, saga.history_seq);
        let to = NewGraph { hash: &plan.to, queue: &plan.queue };
        if !store::in_flight::move_saga(&mut transaction, place, &plan.from, to).await? {
            return Ok(false);
        }
        let state = |hash: &str| json!({"status": "running", "step": saga.step, "direction": "action", "graph_hash": hash});
        let entry = AuditEntry {
            request: AuditReason { by, action: MOVE, reason },
            saga_id: saga.saga_id,
            dead_job_id: None,
            before: state(&plan.from),
            after: state(&plan.to),
        };
        store::audit::record(&mut transaction, &entry).await?;
        transaction.commit().await?;
        let mut after = CommitEffects::default();
        after.due.entry(plan.queue.clone()).or_default().push(saga.saga_id);
        effects::publish(&self.core, after);
        Ok(true)
    }
}
