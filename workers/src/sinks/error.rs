//! Why a batch could not be published.

use super::batch::BATCH_TIMEOUT;

/// A batch could not be published, or it is unknown whether it was.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Redis failed or refused.
    #[error("Redis can't take events")]
    Redis(#[from] redis::RedisError),
    /// The broker failed or refused.
    #[error("the broker can't take events")]
    Amqp(#[from] lapin::Error),
    /// A queue of the broker did not accept an event.
    #[error("a queue of the broker did not accept event {0}")]
    Refused(i64),
    /// The broker accepts nothing until it has memory or disk space again. The last events were sent to it, but it has
    /// not confirmed them.
    #[error("the broker has blocked publishing: it is short of memory or disk space")]
    Blocked,
    /// The connection to the broker is gone.
    #[error("the connection to the broker was lost")]
    Lost,
    /// The sink sent a reply that is not valid.
    #[error("the sink's reply makes no sense: {0}")]
    BadReply(String),
    /// The URL of the broker can't be used; the message leaves it out, because it can hold a password.
    #[error("the URL does not have the form amqps://user:password@host:5671/vhost")]
    Url,
    /// There was no reply in time.
    #[error("no answer within {} s", BATCH_TIMEOUT.as_secs())]
    Timeout,
}
