//! The transactional outbox: events are rows of the commit that makes them true.

mod write;

pub(crate) use write::{NewEvent, append};
