//! The engine's own tasks.

pub(crate) mod lease_keeper;
