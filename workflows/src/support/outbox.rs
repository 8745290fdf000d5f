//! The transactional outbox: an event is a row that is written in the transaction of its change.

mod write;

pub(crate) use write::{NewEvent, append};
