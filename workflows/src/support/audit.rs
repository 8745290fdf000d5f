//! What people changed: who, from where, what, why, and how it was before and after.
//!
//! A change is recorded in its own transaction, so that neither is there without the other. What people do to sagas the
//! engine records itself, see [`Engine::audit`](engine::Engine::audit).

mod entry;
mod read;
mod write;

pub use entry::{AuditActor, AuditEntry};
pub use read::{Filter, Position, Record, list};
pub use write::record;
