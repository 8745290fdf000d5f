//! The background tasks of the engine.

pub(crate) mod due_listener;
pub(crate) mod end_poll;
pub(crate) mod lease_keeper;
