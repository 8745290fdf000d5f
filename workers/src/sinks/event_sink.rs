//! A sink: a Redis stream or an AMQP exchange.

use super::{
    amqp_exchange::AmqpExchange,
    batch::{BATCH_TIMEOUT, EventBatch, SinkReply},
    error::SinkError,
    redis_stream::RedisStream,
};

/// A target to which events are published.
#[derive(Debug)]
pub enum EventSink {
    /// A Redis stream.
    Redis(Box<RedisStream>),
    /// An AMQP exchange.
    Amqp(Box<AmqpExchange>),
}

impl EventSink {
    /// The name of the consumer whose position the event log keeps for this sink.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Redis(_) => "redis",
            Self::Amqp(_) => "amqp",
        }
    }

    /// The number of events that the sink keeps at most; `None` for a sink that can't be refilled.
    pub fn max_len(&self) -> Option<u64> {
        match self {
            Self::Redis(stream) => Some(stream.max_len()),
            Self::Amqp(_) => None,
        }
    }

    /// Publishes a batch, over a new connection if there is none or the last one failed.
    ///
    /// # Errors
    /// When no event of the batch is known to have arrived; the caller publishes the batch again.
    ///
    /// # Cancel safety
    /// Dropping the future counts as an error.
    pub async fn publish(&mut self, batch: EventBatch<'_>) -> Result<SinkReply, SinkError> {
        match self {
            Self::Redis(stream) => {
                let published = tokio::time::timeout(BATCH_TIMEOUT, stream.publish(batch)).await;
                published.unwrap_or(Err(SinkError::Timeout))
            }
            // Work in progress survives the time-out, so that a message that may still arrive is not sent again.
            Self::Amqp(exchange) => exchange.publish(batch).await,
        }
    }

    /// Closes the connection, in at most a second.
    pub async fn close(&mut self) {
        match self {
            Self::Redis(_) => {}
            Self::Amqp(exchange) => exchange.close().await,
        }
    }
}
