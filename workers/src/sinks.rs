//! Sinks: the external targets to which events are published, a Redis stream and an AMQP exchange.
//!
//! A sink gets events in the order of their ids, batch by batch, and confirms them. After an error it is unknown what the
//! sink has: the same batch is published again, so every event arrives at least once.

mod amqp_exchange;
mod batch;
mod error;
mod event_sink;
mod redis_stream;

pub use self::{
    amqp_exchange::AmqpExchange,
    batch::{BATCH_TIMEOUT, EventBatch, EventMessage, NewestEntry, SinkReply},
    error::SinkError,
    event_sink::EventSink,
    redis_stream::RedisStream,
};
