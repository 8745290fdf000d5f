//! The log of events as the tasks of this crate need it.

use std::{error::Error, future::Future, time::Duration};

use uuid::Uuid;

use crate::sinks::EventMessage;

/// The event log refused, or could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("the event log can't be used")]
pub struct EventLogError(#[source] pub Box<dyn Error + Send + Sync>);

/// What one call of [`EventLog::sequence`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequenced {
    /// This many events got their ids; more may wait when that is the limit.
    Moved(u64),
    /// Another process is sequencing.
    Busy,
}

/// How much is read at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    /// The most events of a page.
    pub events: u32,
    /// The page ends with the event that brings its payloads to this many bytes.
    pub bytes: u32,
}

/// The range of events that the event log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// The event before the oldest that is kept.
    pub pruned_through: i64,
    /// The id of the newest event.
    pub last_event_id: i64,
}

/// The right of one process to publish to one consumer, until it expires, and the consumer's position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerLease {
    /// The consumer's name.
    pub consumer: String,
    /// The fence: a change under an older epoch has no effect.
    pub epoch: i64,
    /// The last event that the consumer has confirmed.
    pub last_event_id: i64,
    /// The event after which the current series began.
    pub started_after: i64,
    /// When the current series began, in milliseconds since 1970.
    pub series: i64,
    /// The previous series and the last event that the consumer confirmed in it, if there was one.
    pub previous: Option<(i64, i64)>,
}

/// A log of numbered events with an outbox before it and consumers behind it. Any number of processes use it at once.
///
/// Each function fails when the event log refuses or can't be reached; the caller tries again later.
pub trait EventLog: Clone + Send + Sync + 'static {
    /// Moves up to `limit` committed events from the outbox into the event log; one process at a time does so.
    fn sequence(&self, limit: u32) -> impl Future<Output = Result<Sequenced, EventLogError>> + Send;

    /// Deletes up to `limit` events that are older than `retention` and that every consumer has confirmed; returns
    /// their number.
    fn prune(
        &self,
        retention: Duration,
        limit: u32,
    ) -> impl Future<Output = Result<u64, EventLogError>> + Send;

    /// Reads the page of events after this one; empty at the end of the event log.
    fn read(
        &self,
        after: i64,
        size: PageSize,
    ) -> impl Future<Output = Result<Vec<EventMessage>, EventLogError>> + Send;

    /// Reads which events the event log holds.
    fn range(&self) -> impl Future<Output = Result<LogRange, EventLogError>> + Send;

    /// Registers a consumer, if it is new, before the oldest event that is kept.
    fn register(&self, consumer: &str) -> impl Future<Output = Result<(), EventLogError>> + Send;

    /// Whether a consumer is registered.
    fn is_registered(&self, consumer: &str) -> impl Future<Output = Result<bool, EventLogError>> + Send;

    /// Acquires or renews the lease of a consumer; `None` while another process holds it, or when the consumer is not
    /// registered. `holder` is a fresh id of this process.
    fn acquire(
        &self,
        consumer: &str,
        holder: Uuid,
        duration: Duration,
    ) -> impl Future<Output = Result<Option<ConsumerLease>, EventLogError>> + Send;

    /// Records that the consumer has every event up to `last_event_id`, and renews the lease. Returns false, and
    /// records nothing, when the lease was lost or an operator changed the position.
    fn confirm(
        &self,
        lease: &ConsumerLease,
        last_event_id: i64,
        duration: Duration,
    ) -> impl Future<Output = Result<bool, EventLogError>> + Send;

    /// Moves the position back, because the consumer has lost the events after `last_event_id`. Returns false as
    /// [`Self::confirm`] does.
    fn rewind(
        &self,
        lease: &ConsumerLease,
        last_event_id: i64,
    ) -> impl Future<Output = Result<bool, EventLogError>> + Send;

    /// Starts a new series after the consumer's position, with a number above `beyond`. Returns false as
    /// [`Self::confirm`] does.
    fn start_series(
        &self,
        lease: &ConsumerLease,
        beyond: i64,
    ) -> impl Future<Output = Result<bool, EventLogError>> + Send;

    /// Releases the lease, so that another process can acquire it at once.
    fn release(&self, lease: &ConsumerLease) -> impl Future<Output = Result<(), EventLogError>> + Send;
}
