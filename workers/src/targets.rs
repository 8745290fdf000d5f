//! Where events are published to: a Redis stream, an AMQP exchange.
//!
//! A target is given events in the order of their ids, batch by batch, and says when it has them. After any error nobody
//! knows what it has: the same batch is given again, so every event arrives at least once.

mod exchange;
mod stream;

use std::time::Duration;

pub use exchange::AmqpExchange;
pub use stream::RedisStream;

/// How long a target may take for one batch before it counts as away, connecting included.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// One event as targets get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
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
pub struct Batch<'a> {
    /// When the target began to be filled, in milliseconds since 1970.
    pub series: i64,
    /// The last event that the target has confirmed.
    pub after: i64,
    /// A target that turns out to be empty is filled again from behind this event.
    pub floor: i64,
    /// What comes next. Empty, it is only asked what the target has, if it can tell.
    pub messages: &'a [Message],
}

/// What a target said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has all of them.
    Confirmed,
    /// Nothing was added: the last event that it has is another than was thought. It lost what came later, or an answer
    /// of its was lost.
    Holds(i64),
    /// Nothing was added: it has entries of a later series than ours.
    Foreign(i64),
}

/// A batch could not be published, or nobody knows whether it was.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Redis failed or refused.
    #[error("Redis can't take events")]
    Redis(#[from] redis::RedisError),
    /// The broker failed or refused.
    #[error("the broker can't take events")]
    Amqp(#[from] lapin::Error),
    /// The broker took an event and could not keep it.
    #[error("the broker did not accept event {0}")]
    Refused(i64),
    /// The target gave an answer that it can't give.
    #[error("the target's answer makes no sense: {0}")]
    Answer(String),
    /// The target's URL can't be used; it is not repeated here, because it can hold a password.
    #[error("the URL is none of the form amqp://user:password@host:5672/vhost")]
    Url,
    /// There was no answer.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
}

/// One of the places that events are published to.
#[derive(Debug)]
pub enum Target {
    /// A Redis stream.
    Stream(Box<RedisStream>),
    /// An AMQP exchange.
    Exchange(Box<AmqpExchange>),
}

impl Target {
    /// The name under which its position is kept.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stream(_) => "redis",
            Self::Exchange(_) => "amqp",
        }
    }

    /// Publishes a batch; it connects when it has to, and forgets the connection after any error.
    ///
    /// # Errors
    /// When the batch has to be published again. It may have arrived all the same, or a part of it.
    ///
    /// # Cancel safety
    /// Dropped, it counts as an error.
    pub async fn publish(&mut self, batch: Batch<'_>) -> Result<Outcome, TargetError> {
        let published = async {
            match self {
                Self::Stream(stream) => stream.publish(batch).await,
                Self::Exchange(exchange) => exchange.publish(batch).await,
            }
        };
        tokio::time::timeout(PATIENCE, published).await.unwrap_or(Err(TargetError::Silent))
    }
}
