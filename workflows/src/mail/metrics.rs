//! The metrics of mails.

use metrics::{Unit, describe_counter};

/// Describes the metrics of mails to the recorder; called once, after the recorder is installed.
pub fn describe_metrics() {
    describe_counter!(
        "sagaline_mails_total",
        Unit::Count,
        "Mails handed to the transport, by transport and outcome: sent, or the error's code"
    );
}
