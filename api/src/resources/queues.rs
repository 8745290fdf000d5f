//! Queues: what waits in them, and whether they are paused.

mod body;
pub(crate) mod get;
pub(crate) mod list;
mod problem;
pub(crate) mod update;
