//! The log of events: what was in the outbox, with the ids that consumers follow.
//!
//! Transactions append to the outbox side by side and commit in any order, so the outbox's own ids tell a reader nothing
//! about what is still to come. [`sequence`] moves what is committed into the log, one round after the other, and gives
//! ids there: without gaps, and visible in their order. A reader needs to remember one number, [`Event::event_id`].
//! Decision 0011 says why that keeps the order per key.

pub(crate) mod consumers;
mod event;
mod read;
mod timeout;
mod topics;
mod write;

pub use consumers::{
    Consumer, ConsumerLease, Replay, advance, claim, consumers, register, release, rewind, start_series,
};
pub use event::{Event, EventPage, LogRange, PageSize};
pub use read::{ConsumerLag, Lag, lag, log_range, read};
pub use topics::{Topics, TopicsError};
pub use write::{Sequenced, prune, sequence};
