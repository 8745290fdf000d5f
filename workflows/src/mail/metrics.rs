//! The metrics of the shop.

use metrics::{Unit, describe_counter};

/// Describes the shop's metrics to the recorder; called once, after the recorder is installed.
pub fn describe_metrics() {
    describe_counter!(
        "sagaline_mails_total",
        Unit::Count,
        "Mails handed to the transport, by transport and outcome: sent, or the error's code"
    );
}
