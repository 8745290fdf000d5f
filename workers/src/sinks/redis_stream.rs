//! A Redis stream whose entry ids contain the event ids, so that Redis itself knows its position.
//!
//! Redis accepts only ids higher than all before, so no event is stored twice or out of order, whichever process
//! publishes. The highest id shows when Redis was flushed, restarted or restored from an older copy; the stream is then
//! refilled from there.

use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection};

use super::{
    batch::{BATCH_TIMEOUT, EventBatch, NewestEntry, SinkReply},
    error::SinkError,
};

const SCRIPT: &str = include_str!("publish.lua");

/// A stream in Redis.
pub struct RedisStream {
    client: Client,
    stream: String,
    max_len: u64,
    connection: Option<MultiplexedConnection>,
}

impl RedisStream {
    /// Creates the sink for a stream in the Redis at `url` (`redis://…`) that is trimmed to about `max_len` entries.
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When the URL is invalid; the error leaves it out.
    pub fn new(url: &str, stream: impl Into<String>, max_len: u64) -> Result<Self, RedisError> {
        Ok(Self { client: Client::open(url)?, stream: stream.into(), max_len, connection: None })
    }

    pub(super) fn max_len(&self) -> u64 {
        self.max_len
    }

    pub(super) async fn publish(&mut self, batch: EventBatch<'_>) -> Result<SinkReply, SinkError> {
        // Taken out, so that it is dropped after an error and when this future is dropped.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut script = redis::cmd("EVAL");
        script.arg(SCRIPT).arg(1).arg(&self.stream);
        let previous = batch.previous.map(|(series, event_id)| format!("{series}-{event_id}"));
        script.arg(batch.series).arg(batch.after).arg(batch.refill_after).arg(batch.started_after);
        script.arg(previous.unwrap_or_default()).arg(self.max_len);
        for message in batch.messages {
            script.arg(message.event_id).arg(&message.routing_key).arg(&message.key);
            script.arg(&message.at).arg(&message.payload);
        }
        let answer: Vec<String> = script.query_async(&mut connection).await?;
        self.connection = Some(connection);
        reply(batch, &answer)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(BATCH_TIMEOUT))
            .set_response_timeout(Some(BATCH_TIMEOUT));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// Leaves the URL out, which can hold a password.
impl std::fmt::Debug for RedisStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStream")
            .field("stream", &self.stream)
            .field("max_len", &self.max_len)
            .finish_non_exhaustive()
    }
}

/// Reads the script's answer.
fn reply(batch: EventBatch<'_>, answer: &[String]) -> Result<SinkReply, SinkError> {
    let senseless = || SinkError::BadReply(answer.join(" ").chars().take(80).collect());
    let number = |text: &String| text.parse::<i64>().map_err(|_| senseless());
    match answer {
        [word] if word == "confirmed" => {
            Ok(SinkReply::Confirmed(batch.messages.last().map_or(batch.after, |message| message.event_id)))
        }
        [word, event_id] if word == "lacks" => Ok(SinkReply::Lacks(number(event_id)?)),
        [word, series] if word == "foreign" => Ok(SinkReply::Foreign(number(series)?)),
        [word, event_id, at, routing_key, key] if word == "ahead" => Ok(SinkReply::Ahead(NewestEntry {
            event_id: number(event_id)?,
            at: at.clone(),
            routing_key: routing_key.clone(),
            key: key.clone(),
        })),
        _ => Err(senseless()),
    }
}
