//! The audit log: who changed what, from where and why, and the state before and after.
//!
//! A record is written in the transaction of its change, so that neither exists without the other. The engine records
//! what operators do to sagas, see [`Engine::audit`](engine::Engine::audit).

mod entry;
mod read;
mod write;

pub(crate) use entry::StartActor;
pub use entry::{AuditActor, AuditEntry};
pub use read::{Filter, Position, Record, list};
pub use write::record;
