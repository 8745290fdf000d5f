//! The event log for open streams.
//!
//! While any stream is open, one task per process (`reader`) reads new events from the event log and broadcasts them to
//! all streams. Older events each stream reads by itself, a page at a time, as fast as its caller takes them. Ids have
//! no gaps, so a stream can tell from them alone whether it has missed an event.

mod broadcast;
mod channel;
mod reader;
mod stream;

pub(crate) use broadcast::EventBroadcast;
pub(crate) use stream::EventStream;
