//! What the shop measures, by name.

use metrics::{Unit, describe_counter, describe_gauge};

/// Tells the recorder what the shop's metrics mean; once, after it was installed.
pub fn describe_metrics() {
    describe_counter!(
        "sagaline_mails_total",
        Unit::Count,
        "Mails handed to the transport, by transport and outcome: sent, or the error's code"
    );
    describe_gauge!("sagaline_breaker_state", "A dependency's breaker: 0 closed, 1 open, 2 half open");
    describe_counter!(
        "sagaline_breaker_rejected_total",
        Unit::Count,
        "Calls not made because the breaker was open, by dependency"
    );
}
