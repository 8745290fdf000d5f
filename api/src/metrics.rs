//! What `/metrics` shows: requests as they happen; queues, sagas, the pool and the process when it is scraped.

mod gauges;
mod names;
mod outbox;
mod requests;
mod snapshots;

pub use names::describe_metrics;

pub(crate) use gauges::{GaugeSources, Gauges};
pub(crate) use names::{STREAMS, STREAMS_DROPPED};
pub(crate) use requests::record_request;
