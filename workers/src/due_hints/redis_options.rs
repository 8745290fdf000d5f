//! The options of the Redis that passes due hints on: its URL, its queues and the prefix of its keys.

/// The Redis that passes the ids of due sagas on, and the queues that use it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisOptions {
    pub(super) url: String,
    pub(super) queues: Vec<String>,
    pub(super) prefix: String,
}

impl RedisOptions {
    /// Creates the options for the Redis at `url` (`redis://…`) and these queues.
    pub fn for_queues(url: impl Into<String>, queues: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            url: url.into(),
            queues: queues.into_iter().map(Into::into).collect(),
            prefix: "sagaline".into(),
        }
    }

    /// Sets the prefix of every key in Redis, `sagaline` by default. Two systems on one Redis need two prefixes.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }
}

/// Leaves the URL out, which can hold a password.
impl std::fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisOptions")
            .field("queues", &self.queues)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
