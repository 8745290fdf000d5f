//! What the shop measures, by name.

use metrics::{Unit, describe_counter};

/// Tells the recorder what the shop's metrics mean; once, after it was installed.
pub fn describe_metrics() {
    describe_counter!(
        "sagaline_mails_total",
        Unit::Count,
        "Mails handed to the transport, by transport and outcome: sent, or the error's code"
    );
}
