//! The tasks that take events out of the database: from the outbox into the event log, and from the event log to the
//! sinks.
//!
//! This crate does not know where events are stored; the caller implements [`EventLog`] over its tables.

mod event_log;
mod publisher;
mod removal;
mod sequencer;
mod tasks;

pub use self::{
    event_log::{ConsumerLease, EventLog, EventLogError, LogRange, PageSize, Sequenced},
    tasks::EventTasks,
};
