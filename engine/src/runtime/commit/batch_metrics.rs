//! Metrics of a batch: counted during the transaction, recorded after its commit.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{
    runtime::commit::cursor::SagaCursor,
    store::commits::HistoryRow,
    support::metrics::{ATTEMPTS, DEAD_LETTERED, ENDED, SAGA_DURATION, STEP_DURATION},
};

/// Attempts, ended sagas with their ages, and dead-lettered sagas of one batch.
#[derive(Debug, Default)]
pub(crate) struct BatchMetrics {
    /// By definition, step, direction and outcome: the number of attempts and the longest duration.
    attempts: BTreeMap<[String; 4], (u64, Duration)>,
    /// By definition and status.
    ended: BTreeMap<[String; 2], Vec<Duration>>,
    /// By definition, step and direction.
    dead_lettered: BTreeMap<[String; 3], u64>,
}

impl BatchMetrics {
    /// Counts attempts, ends and dead letters. Labels are copied once for each combination, not for each saga.
    pub(crate) fn of(rows: &[HistoryRow], cursors: &[SagaCursor<'_>]) -> Self {
        let graph_of: HashMap<_, _> =
            cursors.iter().map(|cursor| (cursor.job.saga_id.0, cursor.graph)).collect();
        let mut attempts: BTreeMap<[&str; 4], (u64, Duration)> = BTreeMap::new();
        for row in rows {
            let Some(graph) = graph_of.get(&row.saga_id) else { continue };
            let kind = [&graph.name, &row.step, row.direction, row.outcome.name()];
            let (count, longest) = attempts.entry(kind).or_default();
            // How long a wait took says nothing about its step.
            let took = if graph.is_wait(&row.step) { Duration::ZERO } else { row.duration };
            (*count, *longest) = (*count + 1, (*longest).max(took));
        }
        let mut ended: BTreeMap<[&str; 2], Vec<Duration>> = BTreeMap::new();
        for cursor in cursors.iter().filter(|cursor| cursor.came_to_rest) {
            let kind = [&*cursor.job.definition_name, cursor.state.status.name()];
            ended.entry(kind).or_default().push(cursor.age);
        }
        let mut dead_lettered: BTreeMap<[&str; 3], u64> = BTreeMap::new();
        for cursor in cursors.iter().filter(|cursor| cursor.is_dead_lettered()) {
            let kind = [&*cursor.job.definition_name, &cursor.step_name, cursor.state.direction.name()];
            *dead_lettered.entry(kind).or_default() += 1;
        }
        Self { attempts: owned(attempts), ended: owned(ended), dead_lettered: owned(dead_lettered) }
    }

    /// Records the counts: one increment for each combination of labels.
    pub(crate) fn record(self) {
        for ([definition, step, direction, outcome], (count, longest)) in self.attempts {
            let labels =
                [("definition", definition), ("step", step), ("direction", direction), ("outcome", outcome)];
            metrics::counter!(ATTEMPTS, &labels).increment(count);
            // All sagas of a batch took the same time, so it is recorded once.
            metrics::histogram!(STEP_DURATION, &labels[..3]).record(longest.as_secs_f64());
        }
        for ([definition, outcome], ages) in self.ended {
            let labels = [("definition", definition), ("outcome", outcome)];
            metrics::counter!(ENDED, &labels).increment(ages.len() as u64);
            let histogram = metrics::histogram!(SAGA_DURATION, &labels);
            for age in ages {
                histogram.record(age.as_secs_f64());
            }
        }
        for ([definition, step, direction], count) in self.dead_lettered {
            let labels = [("definition", definition), ("step", step), ("direction", direction)];
            metrics::counter!(DEAD_LETTERED, &labels).increment(count);
        }
    }
}

fn owned<const N: usize, V>(counts: BTreeMap<[&str; N], V>) -> BTreeMap<[String; N], V> {
    counts.into_iter().map(|(kind, value)| (kind.map(str::to_owned), value)).collect()
}
