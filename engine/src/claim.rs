//! Makes jobs of claimed rows.

use std::{collections::HashMap, sync::Arc};

use serde_json::value::RawValue;

use crate::{
    engine::Inner,
    graph::StepKind,
    ids::SagaId,
    job::{Job, Permit},
    status::{Direction, Status},
    store::{
        self,
        claims::{ClaimedRow, Pick},
    },
    transition::State,
};

/// What the steps of a saga gave so far, by step name.
type Outputs = Vec<(String, Option<Arc<RawValue>>)>;

impl Inner {
    /// Claims due sagas and reads what they need to go on.
    pub(crate) async fn claim(&self, pick: Pick<'_>, limit: usize) -> Result<Vec<Job>, sqlx::Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut conn = self.pool.acquire().await?;
        let rows = store::claims::claim(&mut conn, pick, limit, self.worker, self.lease_ms()).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        // From here on the claims are ours: whatever fails below leaves them to their leases.
        metrics::counter!("sagaline_commits_total", "kind" => "claim").increment(1);
        let taken_over = rows.iter().filter(|row| row.taken_over).count();
        if taken_over > 0 {
            tracing::warn!(sagas = taken_over, "took over sagas whose lease had ended");
            metrics::counter!("sagaline_leases_taken_over_total").increment(taken_over as u64);
        }
        let begun: Vec<_> = rows.iter().filter(|row| row.history_seq > 0).map(|row| row.id).collect();
        let mut outputs: HashMap<_, Outputs> = HashMap::new();
        if !begun.is_empty() {
            for row in store::claims::outputs(&mut conn, &begun).await? {
                let output = row.output.map(|json| Arc::from(json.0));
                outputs.entry(row.saga_id).or_default().push((row.step, output));
            }
        }
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                let outputs = outputs.remove(&row.id);
                self.job(row, outputs.unwrap_or_default())
            })
            .collect())
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
        let cause = match row.cause.map(serde_json::from_value).transpose() {
            Ok(cause) => cause,
            Err(error) => {
                tracing::error!(saga.id = %row.id, error = %error, "a saga's cause can't be read; left to its lease");
                return None;
            }
        };
        let call = definition.as_ref().and_then(|known| known.graph.steps.get(at)).map(|node| node.kind)
            == Some(StepKind::Call);
        let state = State {
            status,
            at,
            direction,
            attempt: u32::try_from(row.attempt).unwrap_or(u32::MAX),
            losses: u32::try_from(row.losses).unwrap_or(u32::MAX),
            in_doubt: row.in_doubt || (row.taken_over && call && direction == Direction::Action),
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
            solo: false,
            hold: self.holds.hold(saga_id, row.epoch),
            permit: Permit::default(),
            definition,
        })
    }
}
