//! Where events are published to: a Redis stream, an AMQP exchange.
//!
//! A target is given events in the order of their ids, batch by batch, and says when it has them. After any error nobody
//! knows what it has: the same batch is given again, so every event arrives at least once.

mod amqp_exchange;
mod redis_stream;

use std::time::Duration;

pub use amqp_exchange::AmqpExchange;
pub use redis_stream::RedisStream;

/// How long a target may take for one batch before it counts as away, connecting included.
pub const BATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// One event as targets get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventMessage {
    /// Its number: unique, growing, without gaps.
    pub event_id: i64,
    /// When it happened, in RFC 3339.
    pub at: String,
    /// The same in whole seconds since 1970.
    pub at_s: u64,
    /// What happened.
    pub routing_key: String,
    /// What it happened to.
    pub key: String,
    /// What it tells, as JSON.
    pub payload: String,
}

/// Events that follow each other, and what the target is thought to have.
#[derive(Clone, Copy, Debug)]
pub struct EventBatch<'a> {
    /// When the target began to be filled, in milliseconds since 1970.
    pub series: i64,
    /// The last event that the target has confirmed.
    pub after: i64,
    /// The event after which the series began.
    pub begun_after: i64,
    /// The series before and the last event that was confirmed in it, if there was one.
    pub previous: Option<(i64, i64)>,
    /// A target that turns out to be empty is filled again from behind this event.
    pub floor: i64,
    /// What comes next. Empty, it is only asked what the target has, if it can tell.
    pub messages: &'a [EventMessage],
}

/// What a target said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkReply {
    /// It has everything up to this event, which may be less than it was given.
    Confirmed(i64),
    /// Nothing was added: it has lost what came behind this event.
    Lacks(i64),
    /// Nothing was added: it has more of this series than was thought. An answer of its was lost; or it is of a log that
    /// went another way, because the database was put back.
    Ahead(NewestEntry),
    /// Nothing was added: it has entries of a later series than ours.
    Foreign(i64),
}

/// The newest event that a target has, by which the log knows it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestEntry {
    /// Its number.
    pub event_id: i64,
    /// When it happened, as it was published.
    pub at: String,
    /// What happened.
    pub routing_key: String,
    /// What it happened to.
    pub key: String,
}

/// A batch could not be published, or nobody knows whether it was.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Redis failed or refused.
    #[error("Redis can't take events")]
    Redis(#[from] redis::RedisError),
    /// The broker failed or refused.
    #[error("the broker can't take events")]
    Amqp(#[from] lapin::Error),
    /// A queue of the broker did not take an event.
    #[error("a queue of the broker did not accept event {0}")]
    Refused(i64),
    /// The broker takes nothing until it has memory or disk space again; it has the last events and has not confirmed
    /// them.
    #[error("the broker has blocked publishing: it is short of memory or disk space")]
    Blocked,
    /// The connection to the broker is gone.
    #[error("the connection to the broker was lost")]
    Lost,
    /// The target gave an answer that it can't give.
    #[error("the target's answer makes no sense: {0}")]
    BadReply(String),
    /// The target's URL can't be used; it is not repeated here, because it can hold a password.
    #[error("the URL is none of the form amqps://user:password@host:5671/vhost")]
    Url,
    /// There was no answer.
    #[error("no answer within {} s", BATCH_TIMEOUT.as_secs())]
    Timeout,
}

/// One of the places that events are published to.
#[derive(Debug)]
pub enum EventSink {
    /// A Redis stream.
    Redis(Box<RedisStream>),
    /// An AMQP exchange.
    Amqp(Box<AmqpExchange>),
}

impl EventSink {
    /// The name under which its position is kept.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Redis(_) => "redis",
            Self::Amqp(_) => "amqp",
        }
    }

    /// Publishes a batch; it connects when it has to. A connection that failed is made anew the next time.
    ///
    /// # Errors
    /// When nothing of the batch is known to have arrived, and it has to be published again.
    ///
    /// # Cancel safety
    /// Dropped, it counts as an error.
    pub async fn publish(&mut self, batch: EventBatch<'_>) -> Result<SinkReply, SinkError> {
        match self {
            Self::Redis(stream) => {
                let published = tokio::time::timeout(BATCH_TIMEOUT, stream.publish(batch)).await;
                published.unwrap_or(Err(SinkError::Timeout))
            }
            // It keeps what is under way beyond its patience, so that nothing is sent again that may still arrive.
            Self::Amqp(exchange) => exchange.publish(batch).await,
        }
    }

    /// Says goodbye, in a second at the most.
    pub async fn close(&mut self) {
        match self {
            Self::Redis(_) => {}
            Self::Amqp(exchange) => exchange.close().await,
        }
    }
}
