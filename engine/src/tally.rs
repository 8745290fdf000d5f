//! Counts what a set did, for the metrics.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{
    meters::{ATTEMPTS, ENDED, PARKED, SAGA_DURATION, STEP_DURATION},
    store::moves::HistoryRow,
    walker::Walker,
};

/// Counts attempts, endings with their ages, and parked sagas; one counter step a kind, not one a saga.
pub(crate) fn count(rows: &[HistoryRow], walkers: &[Walker<'_>]) {
    let definition_of: HashMap<_, _> =
        walkers.iter().map(|walker| (walker.job.saga_id.0, &walker.job.definition_name)).collect();
    let mut attempts: BTreeMap<(&str, &str, &str, &str), (u64, Duration)> = BTreeMap::new();
    for row in rows {
        let Some(definition) = definition_of.get(&row.saga_id) else { continue };
        let tally = attempts.entry((definition, &row.step, row.direction, row.outcome.name())).or_default();
        *tally = (tally.0 + 1, tally.1.max(row.duration));
    }
    for ((definition, step, direction, outcome), (count, longest)) in attempts {
        let labels = [
            ("definition", definition.to_owned()),
            ("step", step.to_owned()),
            ("direction", direction.to_owned()),
            ("outcome", outcome.to_owned()),
        ];
        metrics::counter!(ATTEMPTS, &labels).increment(count);
        // One set took one time: it is recorded once, not once a saga.
        metrics::histogram!(STEP_DURATION, &labels[..3]).record(longest.as_secs_f64());
    }
    let mut outcomes: BTreeMap<(&str, &str), Vec<Duration>> = BTreeMap::new();
    for walker in walkers.iter().filter(|walker| walker.rested) {
        outcomes
            .entry((&walker.job.definition_name, walker.state.status.name()))
            .or_default()
            .push(walker.age);
    }
    for ((definition, outcome), ages) in outcomes {
        let labels = [("definition", definition.to_owned()), ("outcome", outcome.to_owned())];
        metrics::counter!(ENDED, &labels).increment(ages.len() as u64);
        let histogram = metrics::histogram!(SAGA_DURATION, &labels);
        for age in ages {
            histogram.record(age.as_secs_f64());
        }
    }
    for walker in walkers.iter().filter(|walker| walker.dies()) {
        let labels = [
            ("definition", walker.job.definition_name.to_string()),
            ("step", walker.step_name.clone()),
            ("direction", walker.state.direction.name().to_owned()),
        ];
        metrics::counter!(PARKED, &labels).increment(1);
    }
}
