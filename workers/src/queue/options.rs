//! The options of one queue.

/// How this process works on one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// The queue's name, as definitions give it.
    pub name: String,
    /// The most jobs in flight at once. Most only wait for their group commit, so the number is large.
    pub concurrency: usize,
    /// The most of them that may call outside services at once.
    pub call_concurrency: usize,
}

impl QueueOptions {
    /// Jobs in flight at once by default. Measured: a thousand keep a group commit of some milliseconds busy.
    pub const DEFAULT_CONCURRENCY: usize = 1024;
    /// Calls at once by default.
    pub const DEFAULT_CALL_CONCURRENCY: usize = 64;

    /// Creates the options of the queue of this name, with the default limits.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            concurrency: Self::DEFAULT_CONCURRENCY,
            call_concurrency: Self::DEFAULT_CALL_CONCURRENCY,
        }
    }
}
