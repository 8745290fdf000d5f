//! A queue that this process works on, with its count of jobs in flight.

use uuid::Uuid;

use super::options::QueueOptions;
use crate::metrics::QueueMetrics;

/// A queue that this process works on, with its metrics.
#[derive(Clone)]
pub(crate) struct WorkedQueue {
    pub(super) options: QueueOptions,
    pub(super) metrics: QueueMetrics,
}

impl WorkedQueue {
    pub(crate) fn new(options: QueueOptions) -> Self {
        let metrics = QueueMetrics::new(&options.name);
        Self { options, metrics }
    }

    pub(crate) fn name(&self) -> &str {
        &self.options.name
    }

    /// Whether as many jobs are in flight as the options allow.
    pub(crate) fn is_full(&self) -> bool {
        self.metrics.in_flight() >= self.options.concurrency
    }
}

impl std::fmt::Debug for WorkedQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.options.fmt(f)
    }
}

/// A new name for an apalis worker. No earlier start had it: apalis takes a worker of a known name for the earlier one.
pub(crate) fn worker_name(queue: &str) -> String {
    format!("{queue}-{}", Uuid::now_v7())
}
