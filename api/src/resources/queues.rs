//! Queues: read, pause, resume.

mod body;
pub(crate) mod get;
pub(crate) mod list;
mod problem;
pub(crate) mod update;
