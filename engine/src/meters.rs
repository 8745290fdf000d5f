//! What the engine measures, by name, for whoever installs a recorder.

use metrics::{Unit, describe_counter, describe_histogram};

pub(crate) const ATTEMPTS: &str = "sagaline_step_attempts_total";
pub(crate) const STEP_DURATION: &str = "sagaline_step_duration_seconds";
pub(crate) const ENDED: &str = "sagaline_sagas_ended_total";
pub(crate) const SAGA_DURATION: &str = "sagaline_saga_duration_seconds";
pub(crate) const PARKED: &str = "sagaline_sagas_parked_total";
pub(crate) const ARCHIVED: &str = "sagaline_dead_jobs_archived_total";

const LEASES: &str = "sagaline_leases_taken_over_total";
const CLAIMS_LOST: &str = "sagaline_claims_lost_total";
const SPLITS: &str = "sagaline_set_splits_total";
const RETRIES: &str = "sagaline_set_retries_total";

/// Tells the recorder what the engine's metrics mean, and that nothing was counted yet where there are no labels: a
/// counter that first appears as one has no rise to be seen. Call it once, after a recorder was installed.
pub fn describe_metrics() {
    describe_counter!(
        "sagaline_sagas_started_total",
        Unit::Count,
        "Sagas started by this process, by definition"
    );
    describe_counter!(
        ENDED,
        Unit::Count,
        "Sagas that workers of this process brought to rest, by definition and outcome: completed, compensated, dead"
    );
    describe_histogram!(
        SAGA_DURATION,
        Unit::Seconds,
        "From a saga's creation to its rest, by definition and outcome"
    );
    describe_counter!(
        PARKED,
        Unit::Count,
        "Sagas parked for a person (dead jobs filed), by definition, step and direction"
    );
    describe_counter!(ATTEMPTS, Unit::Count, "Attempts of steps, by definition, step, direction and outcome");
    describe_histogram!(
        STEP_DURATION,
        Unit::Seconds,
        "How long a step took, by definition, step and direction; a set's time is recorded once, not once a saga"
    );
    describe_histogram!(
        "sagaline_set_size",
        Unit::Count,
        "Sagas that one run of a transaction step worked on"
    );
    describe_counter!(SPLITS, Unit::Count, "Sets that failed and were split to find the saga at fault");
    describe_counter!(RETRIES, Unit::Count, "Sets begun anew because the database had trouble that passes");
    describe_counter!(
        "sagaline_commits_total",
        Unit::Count,
        "Transactions committed, by kind: start, claim, set"
    );
    describe_counter!(LEASES, Unit::Count, "Sagas taken over from a holder whose lease had ended");
    describe_counter!(CLAIMS_LOST, Unit::Count, "Claims lost to another process while they were worked on");
    describe_counter!(
        "sagaline_tasks_panicked_total",
        Unit::Count,
        "Panics of the engine's own tasks, which were begun anew, by task"
    );
    describe_counter!(
        ARCHIVED,
        Unit::Count,
        "Dead jobs archived when their time to live was over, by why: expired, resolved"
    );
    for counter in [LEASES, CLAIMS_LOST, SPLITS, RETRIES] {
        metrics::counter!(counter).absolute(0);
    }
}
