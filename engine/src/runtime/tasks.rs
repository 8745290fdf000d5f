//! The engine's own tasks.

pub(crate) mod due_listener;
pub(crate) mod end_poll;
pub(crate) mod lease_keeper;
