//! The metrics of circuit breakers, by name.

use metrics::Unit;

pub(crate) const STATE: &str = "sagaline_breaker_state";
pub(crate) const TRANSITIONS: &str = "sagaline_breaker_transitions_total";
pub(crate) const REJECTED: &str = "sagaline_breaker_rejected_total";

/// Describes every metric of this crate to the recorder; call it once, after the recorder is installed.
pub fn describe_metrics() {
    metrics::describe_gauge!(
        STATE,
        "A dependency's circuit breaker in this process: 0 closed, 1 half open, 2 open"
    );
    metrics::describe_counter!(
        TRANSITIONS,
        Unit::Count,
        "How often a dependency's circuit breaker went to a state"
    );
    metrics::describe_counter!(
        REJECTED,
        Unit::Count,
        "Calls that an open circuit breaker held back, by dependency"
    );
}
