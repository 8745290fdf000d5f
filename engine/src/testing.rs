//! Proves a saga: runs it with every fault at every step and checks what must hold.
//!
//! ```no_run
//! # use engine::{Definition, NewSaga, testing::Proof};
//! # async fn prove(pool: sqlx::PgPool, saga: fn() -> Vec<Definition>, order: fn() -> NewSaga) -> Result<(), Box<dyn std::error::Error>> {
//! let report = Proof::of("place-order", pool, saga, order)
//!     .check(|case| async move {
//!         // Look at your own tables here; `case.saga_id` and `case.final_status` say which run it was.
//!         (case.effects_of("reserve-stock") <= 1).then_some(()).ok_or_else(|| "reserved twice".into())
//!     })
//!     .run()
//!     .await?;
//! assert!(report.violations.is_empty(), "{report}");
//! # Ok(()) }
//! ```
//!
//! The faults of an action: it crashes before or after its commit (so that it is repeated), fails for good, fails every
//! time, or the saga is cancelled at that step. The faults of an undo: it crashes before or after its
//! commit, or fails until an operator retries it. With [`Proof::says_no`] a step also answers with a no of its own, and
//! must leave nothing behind.

mod fail_point;
mod hooks;
mod invariants;
mod proof;

pub use crate::support::faults::{DisabledGuard, Fault, FaultPoint, Faults};
pub use fail_point::FailPoint;
pub use hooks::{end_waits, expire_leases, make_all_due, with_faults};
pub use invariants::history_violations;
pub use proof::{Case, CaseDatabase, Databases, Kind, Proof, ProofError, Report, Run, Struck, Violation};
