//! The background tasks of the engine.

pub(crate) mod end_poll;
pub(crate) mod forgotten_signals;
pub(crate) mod heartbeat;
pub(crate) mod hint_listener;
pub(crate) mod hint_sender;
pub(crate) mod lease_keeper;
pub(crate) mod nudge;
pub(crate) mod progress_writer;
pub(crate) mod sweep;
