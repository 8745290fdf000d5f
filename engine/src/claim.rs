//! Makes jobs of claimed rows.

use std::{collections::HashMap, sync::Arc};

use serde_json::value::RawValue;

use crate::{
    engine::Inner,
    graph::StepKind,
    ids::SagaId,
    job::{Job, Permit},
    queues::Left,
    status::{Direction, Status},
    store::{
        self,
        claims::{ClaimedRow, Claimer, Pick, ReleaseRow},
    },
    transition::State,
    upkeep,
};

/// What the steps of a saga gave so far, by step name.
type Outputs = Vec<(String, Option<Arc<RawValue>>)>;

impl Inner {
    /// Claims due sagas and reads what they need to go on.
    pub(crate) async fn claim(&self, pick: Pick<'_>, limit: usize) -> Result<Vec<Job>, sqlx::Error> {
        let patience = self.settings.upkeep();
        // After an outage claims of our own may be overdue while their steps are still under way here.
        let aged = self.holds.aged(self.settings.lease.mul_f64(2.0 / 3.0));
        if !aged.is_empty() {
            self.renew(&aged).await?;
        }
        let conn = upkeep::connection(&self.pool, patience).await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let claimer = Claimer { worker: self.worker, lease_ms: self.lease_ms(), steps: &self.steps };
        upkeep::bounded(conn, patience, async |conn| {
            let ids;
            let pick = match self.feeds.pauses.left(conn, pick, &self.feeds.throttles.limited()).await? {
                Left::Nothing => return Ok(Vec::new()),
                Left::All => pick,
                Left::Ids(left) => {
                    ids = left;
                    Pick::Ids(&ids)
                }
            };
            let rows = store::claims::claim(conn, pick, limit, &claimer).await?;
            // From here on the claims are ours; whatever goes wrong below, they are given back.
            let mut fresh = Claimed { engine: self, rows };
            let room = limit - i64::try_from(fresh.rows.len()).unwrap_or(limit);
            let patience = self.settings.orphan_grace;
            if let Pick::Usual(queue) = pick
                && room > 0
                && self.strangers.are_due(queue, patience)
            {
                let overdue_ms = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
                let strangers = Pick::Strangers { queue, overdue_ms };
                fresh.rows.extend(store::claims::claim(conn, strangers, room, &claimer).await?);
            }
            if fresh.rows.is_empty() {
                return Ok(Vec::new());
            }
            fresh.count();
            let begun: Vec<_> =
                fresh.rows.iter().filter(|row| row.history_seq > 0).map(|row| row.id).collect();
            let mut outputs: HashMap<_, Outputs> = HashMap::new();
            if !begun.is_empty() {
                for row in store::claims::outputs(conn, &begun).await? {
                    let output = row.output.map(|json| Arc::from(json.0));
                    outputs.entry(row.saga_id).or_default().push((row.step, output));
                }
            }
            Ok(fresh.jobs(outputs))
        })
        .await
    }

    /// Whether an attempt that was lost at this place may have called the outside world.
    fn may_have_called(&self, row: &ClaimedRow) -> bool {
        let definition = self.definitions.get(&row.definition);
        let node = definition.and_then(|known| known.graph.steps.get(*known.positions.get(&row.step)?));
        // Of a step that is not known here the worst is assumed.
        row.direction == Direction::Action.name() && node.is_none_or(|node| node.kind == StepKind::Call)
    }

    fn job(&self, row: ClaimedRow, outputs: Outputs) -> Option<Job> {
        let definition = self.definitions.get(&row.definition).cloned();
        let position = |step: &str| definition.as_ref().and_then(|known| known.positions.get(step).copied());
        // A place outside every graph: the step is not known here.
        let at = position(&row.step).unwrap_or(usize::MAX);
        let (status, direction) = match (row.status.parse::<Status>(), row.direction.parse::<Direction>()) {
            (Ok(status), Ok(direction)) => (status, direction),
            (status, direction) => {
                tracing::error!(saga.id = %row.id, ?status, ?direction, "a saga's row can't be read; left to its lease");
                return None;
            }
        };
        let in_doubt = self.may_have_called(&row) && (row.in_doubt || row.taken_over);
        let (cause, unreadable) = match row.cause.map(serde_json::from_value).transpose() {
            Ok(cause) => (cause, None),
            Err(error) => (None, Some(format!("its stored cause can't be read: {error}"))),
        };
        let state = State {
            status,
            at,
            direction,
            attempt: u32::try_from(row.attempt).unwrap_or(u32::MAX),
            losses: u32::try_from(row.losses).unwrap_or(u32::MAX),
            in_doubt,
            cause,
        };
        let mut values = vec![Some(Arc::from(row.input.0))];
        for (step, output) in outputs {
            if let Some(place) = position(&step).map(|at| at + 1) {
                if values.len() <= place {
                    values.resize(place + 1, None);
                }
                values[place] = output;
            }
        }
        let saga_id = SagaId(row.id);
        Some(Job {
            saga_id,
            definition_name: row.definition.into(),
            queue: row.queue.into(),
            step: row.step.into(),
            state,
            epoch: row.epoch,
            history_seq: row.history_seq,
            values,
            trace: row.trace.map(Into::into),
            interrupted: row.interrupted && direction == Direction::Action,
            unreadable,
            solo: false,
            hold: self.holds.hold(saga_id, row.epoch),
            permit: Permit::default(),
            definition,
        })
    }
}

/// Claims that are not jobs yet; those left when it is dropped are given back, not begun.
struct Claimed<'a> {
    engine: &'a Inner,
    rows: Vec<ClaimedRow>,
}

impl Claimed<'_> {
    fn count(&self) {
        metrics::counter!("sagaline_commits_total", "kind" => "claim").increment(1);
        let taken_over = self.rows.iter().filter(|row| row.taken_over).count();
        if taken_over > 0 {
            tracing::warn!(sagas = taken_over, "took over sagas whose lease had ended");
            metrics::counter!("sagaline_leases_taken_over_total").increment(taken_over as u64);
        }
    }

    fn jobs(mut self, mut outputs: HashMap<uuid::Uuid, Outputs>) -> Vec<Job> {
        let rows = std::mem::take(&mut self.rows);
        rows.into_iter()
            .filter_map(|row| {
                let outputs = outputs.remove(&row.id);
                self.engine.job(row, outputs.unwrap_or_default())
            })
            .collect()
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let rows = self.rows.iter().map(|row| ReleaseRow {
            id: row.id,
            epoch: row.epoch,
            attempt: row.attempt.saturating_sub(1),
            history_seq: row.history_seq,
            in_doubt: self.engine.may_have_called(row) && (row.in_doubt || row.taken_over),
            called: false,
            delay_ms: 0,
            error: None,
        });
        self.engine.holds.release_later(rows);
        self.engine.keeper.notify_one();
    }
}
