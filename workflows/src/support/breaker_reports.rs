//! The circuit breakers of all processes, as each of them tells: a display, by which nobody decides.

mod read;
mod report;
mod write;

pub use read::list;
pub use report::{Process, ReportedBreaker, ReportedState};
pub use write::{report, withdraw};
