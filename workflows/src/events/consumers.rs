//! The consumers of events: how far each has confirmed them, and which process publishes to it.

mod consumer;
mod read;
mod write;

pub use consumer::{Consumer, ConsumerLease, Replay};
pub use read::{consumers, is_registered};
pub use write::{advance, claim, register, release, rewind, start_series};
pub(crate) use write::{begin_again, delete, lock, lock_use};
