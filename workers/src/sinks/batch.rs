//! The batch that a sink gets, and its reply.

use std::time::Duration;

/// How long a sink may take for one batch, connecting included.
pub const BATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// One event as sinks get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventMessage {
    /// The event's number in the event log: unique, growing, without gaps.
    pub event_id: i64,
    /// The time of the event in RFC 3339.
    pub at: String,
    /// The same time in whole seconds since 1970.
    pub at_s: u64,
    /// What happened, such as `order.confirmed`.
    pub routing_key: String,
    /// The subject of the event: an order's id, or a SKU.
    pub key: String,
    /// The event's data as JSON.
    pub payload: String,
}

/// Consecutive events, and what the sink is expected to have already.
#[derive(Clone, Copy, Debug)]
pub struct EventBatch<'a> {
    /// When the current series began, in milliseconds since 1970.
    pub series: i64,
    /// The last event that the sink has confirmed.
    pub after: i64,
    /// The event after which the series began.
    pub started_after: i64,
    /// The previous series and the last event that was confirmed in it, if there was one.
    pub previous: Option<(i64, i64)>,
    /// A sink that turns out to be empty is refilled with the events after this one.
    pub refill_after: i64,
    /// The events to publish. Without any, the sink only reports what it has, if it can.
    pub messages: &'a [EventMessage],
}

/// What a sink replied to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkReply {
    /// The sink has every event up to this one, which may be less than the batch.
    Confirmed(i64),
    /// Nothing was added: the sink has lost the events after this one.
    Lacks(i64),
    /// Nothing was added: the sink has more of this series than expected. Either an earlier reply was lost, or the
    /// entries come from a log that the database has since been restored behind.
    Ahead(NewestEntry),
    /// Nothing was added: the sink has entries of this later series.
    Foreign(i64),
}

/// The newest entry of a sink, which tells whether it belongs to the same log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestEntry {
    /// The event's number.
    pub event_id: i64,
    /// The event's time as it was published.
    pub at: String,
    /// What happened.
    pub routing_key: String,
    /// The subject of the event.
    pub key: String,
}
