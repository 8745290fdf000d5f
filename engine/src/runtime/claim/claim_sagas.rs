//! Claims due sagas and turns them into jobs.

use std::{collections::HashMap, time::Duration};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    model::error_chain::ErrorChain,
    model::{
        ids::SagaId,
        kinds::StepKind,
        status::Direction,
        stored_value::{StoredValue, StoredValues},
        transition::State,
    },
    runtime::{
        core::Core,
        job::{Ancestry, Job},
        lease_updates,
        quarantine::{FindingStatement, Found, Work},
        queue::pauses::Claimable,
        slots::JobSlots,
    },
    store::{
        self,
        claims::{ClaimContext, ClaimScope, ClaimedRow, OutputRow, ReleaseRow},
        rows::Rows,
        saga_state::StoredState,
    },
    support::{
        connection,
        parts::{Parts, Statement},
    },
};

/// The stored outputs of a saga's steps, by step name.
type Outputs = Vec<(String, Option<StoredValue>)>;

/// The result of a claim.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) jobs: Vec<Job>,
    /// If the claim took as many as it could, for how long the youngest of them could have been claimed before. Others
    /// that are as old or younger may be left.
    pub(crate) left: Option<Duration>,
    pub(crate) asked: Asked,
}

/// Whether the database was asked for sagas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A pause forbids the claim.
    No,
    Whole,
    /// Some can't be claimed, so it was asked for parts. Others that can be claimed may be left, however old.
    InParts,
}

/// Claims due sagas and reads the data that they need to continue.
pub(crate) async fn claim(core: &Core, scope: ClaimScope<'_>, limit: usize) -> Result<Claimed, sqlx::Error> {
    let timeout = core.settings.db_timeout();
    // After an outage this process's own leases may have expired while their steps are still running here.
    let aged = core.leases.older_than(core.settings.lease.mul_f64(2.0 / 3.0));
    if !aged.is_empty() {
        lease_updates::extend_leases(core, &aged).await?;
    }
    let conn = connection::acquire(&core.pool, timeout).await?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let context = ClaimContext { worker: core.worker, lease_ms: core.lease_ms(), hashes: &core.hashes };
    connection::on_connection(conn, timeout, async |conn| {
        let ids;
        let scope =
            match core.feeds.pauses.filter_claimable(conn, scope, &core.feeds.throttles.throttled()).await? {
                Claimable::Nothing => return Ok(Claimed { jobs: Vec::new(), left: None, asked: Asked::No }),
                Claimable::All => scope,
                Claimable::Ids(left) => {
                    ids = left;
                    ClaimScope::Ids(&ids)
                }
            };
        core.graphs.ensure_stored(&core.definitions, conn).await?;
        // The claims are held from now on; if anything below fails, they are released.
        let mut held = HeldRows { core, rows: Vec::new() };
        let statement =
            ClaimStatement { conn: &mut *conn, scope, limit, context: &context, held: &mut held.rows };
        let found = core.quarantine.change_found(Work::Claim, statement).await?;
        let is_full = i64::try_from(held.rows.len()).is_ok_and(|count| count >= limit);
        let youngest = held.rows.iter().map(|row| row.age_ms).min().filter(|_| is_full);
        let left = youngest.map(|age| Duration::from_millis(u64::try_from(age).unwrap_or_default()));
        let asked = match found {
            Found::Whole => Asked::Whole,
            Found::InParts => Asked::InParts,
        };
        if held.rows.is_empty() {
            return Ok(Claimed { jobs: Vec::new(), left, asked });
        }
        held.count();
        let outputs = outputs(conn, &mut held).await?;
        Ok(Claimed { jobs: held.jobs(outputs), left, asked })
    })
    .await
}

/// Claims sagas of a scope, and adds them to those that are held.
struct ClaimStatement<'a> {
    conn: &'a mut PgConnection,
    scope: ClaimScope<'a>,
    limit: i64,
    context: &'a ClaimContext<'a>,
    held: &'a mut Vec<ClaimedRow>,
}

impl FindingStatement for ClaimStatement<'_> {
    async fn change(&mut self, rows: Rows<'_>) -> Result<Vec<Uuid>, sqlx::Error> {
        let claimed = store::claims::claim(self.conn, self.scope, rows, self.limit, self.context).await?;
        let ids = claimed.iter().map(|row| row.id).collect();
        self.held.extend(claimed);
        Ok(ids)
    }

    async fn find(&mut self, rows: Rows<'_>) -> Result<Vec<Uuid>, sqlx::Error> {
        store::claims::claimable(self.conn, self.scope, rows, self.limit, self.context).await
    }
}

/// Reads the outputs of sagas on a connection.
struct ReadOutputs<'a> {
    conn: &'a mut PgConnection,
}

impl Statement<Uuid> for ReadOutputs<'_> {
    type Row = OutputRow;

    async fn run(&mut self, ids: &[Uuid]) -> Result<Vec<OutputRow>, sqlx::Error> {
        store::claims::outputs(self.conn, ids).await
    }
}

/// Reads the outputs of the claimed sagas. Those of which they can't be read are given back.
async fn outputs(
    conn: &mut PgConnection,
    held: &mut HeldRows<'_>,
) -> Result<HashMap<Uuid, Outputs>, sqlx::Error> {
    let with_history: Vec<_> = held.rows.iter().filter(|row| row.history_seq > 0).map(|row| row.id).collect();
    let mut parts = Parts::of(&with_history);
    parts.run(ReadOutputs { conn }).await?;
    let unread: Vec<_> = parts.refused.iter().map(|(id, _)| **id).chain(parts.untried().copied()).collect();
    let read = with_history.iter().copied().filter(|id| !unread.contains(id));
    held.core.quarantine.judge(Work::Read, &parts, |id| *id, read);
    if !unread.is_empty() {
        held.give_back(&unread);
    }
    let mut outputs: HashMap<_, Outputs> = HashMap::new();
    for row in parts.done {
        let output = row.output.map(|json| json.0.into());
        outputs.entry(row.saga_id).or_default().push((row.step, output));
    }
    Ok(outputs)
}

/// Whether the step is undone if the saga compensates: its call may have happened, or it has opened children.
fn was_begun(core: &Core, row: &ClaimedRow) -> bool {
    let definition = core.definitions.with_hash(&row.graph_hash);
    let has_children = definition.is_some_and(|definition| {
        let at = definition.positions.get(&row.step);
        at.is_some_and(|at| definition.graph.steps[*at].kind.has_children())
    });
    if has_children {
        return row.state.in_doubt;
    }
    may_have_called(core, row) && (row.state.in_doubt || row.taken_over)
}

/// Whether an attempt that was lost at this step may have called an outside service.
fn may_have_called(core: &Core, row: &ClaimedRow) -> bool {
    let definition = core.definitions.with_hash(&row.graph_hash);
    let node = definition.and_then(|known| known.graph.steps.get(*known.positions.get(&row.step)?));
    // A step that is unknown here is assumed to be a call.
    row.state.direction == Direction::Action.name() && node.is_none_or(|node| node.kind == StepKind::Call)
}

fn job(core: &Core, row: ClaimedRow, outputs: Outputs) -> Option<Job> {
    let Some(definition) = core.definitions.with_hash(&row.graph_hash).cloned() else {
        // A claim finds sagas of known graphs only.
        tracing::error!(saga.id = %row.id, "a saga of an unknown graph was claimed; left to its lease");
        return None;
    };
    let position = |step: &str| definition.positions.get(step).copied();
    // An index beyond every graph: the row names a step that its graph does not have.
    let step_index = position(&row.step).unwrap_or(usize::MAX);
    let StoredState { state, unreadable_cause } = match row.state.decode(step_index) {
        Ok(stored) => stored,
        Err(error) => {
            tracing::error!(saga.id = %row.id, error = %ErrorChain(&error), "a saga's row can't be read; left to its lease");
            return None;
        }
    };
    let in_doubt = was_begun(core, &row);
    let state = State { in_doubt, ..state };
    let mut values = StoredValues::new(row.input.0.into());
    for (step, output) in outputs {
        if let Some(step_index) = position(&step) {
            definition.set_output(&mut values, step_index, output.as_ref());
        }
    }
    let saga_id = SagaId(row.id);
    Some(Job {
        saga_id,
        definition_name: row.definition.into(),
        queue: row.queue.into(),
        step: row.step.into(),
        epoch: row.epoch,
        history_seq: row.history_seq,
        values,
        trace: row.trace.map(Into::into),
        ancestry: Ancestry { parent_id: row.parent_id, root_id: row.root_id, depth: row.depth },
        interrupted: row.interrupted && state.direction == Direction::Action,
        unreadable: unreadable_cause.map(|error| format!("its stored cause can't be read: {error}")),
        isolated: false,
        lease: core.leases.track(saga_id, row.epoch),
        slots: JobSlots::default(),
        state,
        definition,
    })
}

/// Claims that are not yet jobs. Those left when this is dropped are released as unstarted.
struct HeldRows<'a> {
    core: &'a Core,
    rows: Vec<ClaimedRow>,
}

impl HeldRows<'_> {
    /// Gives some of the claims back.
    fn give_back(&mut self, ids: &[Uuid]) {
        let (rows, kept) = std::mem::take(&mut self.rows).into_iter().partition(|row| ids.contains(&row.id));
        self.rows = kept;
        drop(HeldRows { core: self.core, rows });
    }

    fn count(&self) {
        metrics::counter!("sagaline_commits_total", "kind" => "claim").increment(1);
        let taken_over = self.rows.iter().filter(|row| row.taken_over).count();
        if taken_over > 0 {
            tracing::warn!(sagas = taken_over, "took over sagas whose lease had ended");
            metrics::counter!("sagaline_leases_taken_over_total").increment(taken_over as u64);
        }
    }

    fn jobs(mut self, mut outputs: HashMap<Uuid, Outputs>) -> Vec<Job> {
        let rows = std::mem::take(&mut self.rows);
        rows.into_iter()
            .filter_map(|row| {
                let outputs = outputs.remove(&row.id);
                job(self.core, row, outputs.unwrap_or_default())
            })
            .collect()
    }
}

impl Drop for HeldRows<'_> {
    fn drop(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let rows = self.rows.iter().map(|row| ReleaseRow {
            id: row.id,
            epoch: row.epoch,
            attempt: row.state.attempt.saturating_sub(1),
            history_seq: row.history_seq,
            in_doubt: was_begun(self.core, row),
            called: false,
            delay_ms: 0,
            error: None,
            held_up: false,
        });
        self.core.leases.queue_release(rows);
        self.core.lease_wakeup.notify_one();
    }
}
