//! The engine's metrics: their names and descriptions.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

use crate::model::{graph::Graph, kinds::UndoKind, status::Direction};

pub(crate) const ATTEMPTS: &str = "sagaline_step_attempts_total";
pub(crate) const STEP_DURATION: &str = "sagaline_step_duration_seconds";
pub(crate) const ENDED: &str = "sagaline_sagas_ended_total";
pub(crate) const SAGA_DURATION: &str = "sagaline_saga_duration_seconds";
pub(crate) const DEAD_LETTERED: &str = "sagaline_sagas_dead_lettered_total";
pub(crate) const ARCHIVED: &str = "sagaline_dead_jobs_archived_total";
pub(crate) const PRUNED: &str = "sagaline_dead_jobs_pruned_total";
pub(crate) const PANICKED: &str = "sagaline_tasks_panicked_total";
pub(crate) const LOCK_BLOCKED: &str = "sagaline_sagas_lock_blocked_total";
pub(crate) const STARTS_BLOCKED: &str = "sagaline_starts_lock_blocked_total";
pub(crate) const LATE_CANCELS: &str = "sagaline_late_cancels_total";
pub(crate) const HELD_UP: &str = "sagaline_sagas_held_up";
pub(crate) const QUARANTINED: &str = "sagaline_sagas_quarantined";

pub(crate) const UNREADABLE_SIGNALS: &str = "sagaline_signals_unreadable_total";

const LEASES: &str = "sagaline_leases_taken_over_total";
const CLAIMS_LOST: &str = "sagaline_claims_lost_total";
const SPLITS: &str = "sagaline_batch_splits_total";
const RETRIES: &str = "sagaline_batch_retries_total";

/// Describes the engine's metrics to the installed recorder, and sets counters without labels to zero: a counter that
/// first appears with the value one shows no increase. Call it once, after a recorder was installed.
pub fn describe_metrics() {
    describe_counter!(
        "sagaline_sagas_started_total",
        Unit::Count,
        "Sagas started by this process, by definition"
    );
    describe_counter!(
        ENDED,
        Unit::Count,
        "Sagas that ended or died in this process, by definition and outcome: completed, compensated, dead"
    );
    describe_histogram!(
        SAGA_DURATION,
        Unit::Seconds,
        "Time from a saga's creation until it ended or died, by definition and outcome"
    );
    describe_counter!(
        DEAD_LETTERED,
        Unit::Count,
        "Sagas dead-lettered (dead jobs created), by definition, step and direction"
    );
    describe_counter!(
        UNREADABLE_SIGNALS,
        Unit::Count,
        "Signals that the code of their saga could not read, so that its wait goes on, by definition and signal"
    );
    describe_counter!(ATTEMPTS, Unit::Count, "Attempts of steps, by definition, step, direction and outcome");
    describe_histogram!(
        STEP_DURATION,
        Unit::Seconds,
        "How long a step took, by definition, step and direction; a batch is recorded once, not for each saga"
    );
    describe_histogram!(
        "sagaline_batch_size",
        Unit::Count,
        "Number of sagas in one batch of a transaction step"
    );
    describe_counter!(SPLITS, Unit::Count, "Batches that failed and were split to find the saga at fault");
    describe_counter!(RETRIES, Unit::Count, "Batches retried after a transient error of the database");
    describe_counter!(
        "sagaline_commits_total",
        Unit::Count,
        "Transactions committed, by kind: start, claim, batch"
    );
    describe_counter!(LEASES, Unit::Count, "Sagas taken over from a holder whose lease had ended");
    describe_counter!(CLAIMS_LOST, Unit::Count, "Claims lost to another process while they were worked on");
    describe_counter!(
        LOCK_BLOCKED,
        Unit::Count,
        "Sagas released because another transaction held a lock that they needed, by definition"
    );
    describe_counter!(
        LATE_CANCELS,
        Unit::Count,
        "Accepted cancels that their saga could not follow any more, and that its owner was told of, by definition"
    );
    describe_gauge!(
        HELD_UP,
        Unit::Count,
        "Sagas that this process gave back because a lock or a slow step holds them up, by definition and by: lock, slow"
    );
    describe_gauge!(
        QUARANTINED,
        Unit::Count,
        "Sagas whose row this process can't change, so that it leaves them out and tries again later, by work: claim, \
         read, extend, release, set-aside, wake, expire, prune"
    );
    describe_counter!(
        STARTS_BLOCKED,
        Unit::Count,
        "Starts given up because another transaction held a lock that they needed, by definition"
    );
    describe_counter!(
        PANICKED,
        Unit::Count,
        "Panics of the engine's background tasks, which are restarted, by task"
    );
    describe_counter!(
        ARCHIVED,
        Unit::Count,
        "Dead jobs archived when their time to live was over, by why: expired, resolved"
    );
    describe_counter!(PRUNED, Unit::Count, "Archived dead jobs deleted when their retention was over");
    for counter in [LEASES, CLAIMS_LOST, SPLITS, RETRIES, PRUNED] {
        metrics::counter!(counter).absolute(0);
    }
    for why in ["expired", "resolved"] {
        metrics::counter!(ARCHIVED, "why" => why).absolute(0);
    }
}

/// Sets the counters of a definition that alerts depend on to zero. Otherwise the first dead job of a step would show
/// no increase.
pub(crate) fn register_zero_counters(graph: &Graph) {
    for node in &graph.steps {
        let undo = (node.undo == UndoKind::HasUndo).then_some(Direction::Undo);
        for direction in [Some(Direction::Action), undo].into_iter().flatten() {
            let labels = [
                ("definition", graph.name.clone()),
                ("step", node.name.clone()),
                ("direction", direction.name().to_owned()),
            ];
            metrics::counter!(DEAD_LETTERED, &labels).absolute(0);
        }
    }
    for signal in graph.signals() {
        let labels = [("definition", graph.name.clone()), ("signal", signal.to_owned())];
        metrics::counter!(UNREADABLE_SIGNALS, &labels).absolute(0);
    }
    metrics::counter!(LOCK_BLOCKED, "definition" => graph.name.clone()).absolute(0);
    metrics::counter!(STARTS_BLOCKED, "definition" => graph.name.clone()).absolute(0);
    metrics::counter!(LATE_CANCELS, "definition" => graph.name.clone()).absolute(0);
}
