//! The event log: events with the ids that consumers follow.
//!
//! Transactions append events to the outbox in parallel and commit in any order, so an outbox id does not tell a reader
//! whether an earlier event may still appear. [`sequence`] moves committed events into the event log, one round at a
//! time, and gives them ids that have no gaps and become visible in their order. So a reader remembers one number,
//! [`Event::event_id`]. Decision 0011 says why this keeps the order per key.

pub(crate) mod consumers;
mod event;
mod low_water_marks;
mod read;
mod timeout;
mod topics;
mod write;

pub use consumers::{
    Consumer, ConsumerLease, Replay, advance, claim, consumers, is_registered, register, release, rewind,
    start_series,
};
pub use event::{Event, EventPage, LogRange, PageSize};
pub use low_water_marks::LowWaterMarks;
pub use read::{ConsumerLag, Lag, lag, last_event_id, log_range, read};
pub use topics::{Topics, TopicsError};
pub use write::{Sequenced, prune, sequence};
