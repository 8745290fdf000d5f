//! The circuit breakers of all processes, as each process reports them. They are for display only; no decision depends
//! on them.

mod read;
mod report;
mod write;

pub use read::list;
pub use report::{Process, ReportedBreaker, ReportedState};
pub use write::{report, withdraw};
