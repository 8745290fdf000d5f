//! Why a session with Redis ended.

use apalis_core::monitor::MonitorError;
use redis::RedisError;

/// Why a session with Redis ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DueHintsError {
    #[error("a command failed")]
    Command(#[from] RedisError),
    #[error("ids could not be pushed")]
    Push(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the receiving worker ended: {0}")]
    Receive(String),
    #[error("the receiving worker ended without an error")]
    Ended,
}

/// apalis reports its workers on several lines; the log needs one.
impl From<MonitorError> for DueHintsError {
    fn from(error: MonitorError) -> Self {
        Self::Receive(error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
    }
}
