//! Tells that a consumer was removed while this process publishes to it.

use metrics::{Gauge, gauge};

use crate::metrics::CONSUMER_REMOVED;

/// Whether the consumer of a publisher was removed, in the log and in the metrics.
pub(super) struct Removal {
    consumer: &'static str,
    gauge: Gauge,
    is_removed: bool,
}

impl Removal {
    pub(super) fn new(consumer: &'static str) -> Self {
        let gauge = gauge!(CONSUMER_REMOVED, "consumer" => consumer);
        gauge.set(0.0);
        Self { consumer, gauge, is_removed: false }
    }

    pub(super) fn set(&mut self, is_removed: bool) {
        if is_removed == self.is_removed {
            return;
        }
        self.is_removed = is_removed;
        self.gauge.set(if is_removed { 1.0 } else { 0.0 });
        let consumer = self.consumer;
        if is_removed {
            tracing::error!(
                consumer,
                "the consumer was removed: nothing is published to it until a worker is started again"
            );
        } else {
            tracing::info!(consumer, "the consumer is registered again");
        }
    }
}
