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
//! For each step: its action crashing before and after the commit (so that it is repeated), refusing, and never working;
//! a cancel there; and for each undo: crashing before and after the commit, and not working until a person retries it.

mod cases;
mod fail_point;
mod invariants;
mod proof;

pub use crate::faults::{DisabledGuard, Fault, FaultPoint, Faults};
pub use cases::{Case, Kind};
pub use fail_point::FailPoint;
pub use invariants::history_violations;
pub use proof::{Proof, ProofError, Report, Run};

use crate::builder::EngineBuilder;

/// Makes an engine fail where `faults` says. For tests: a production engine has none.
pub fn with_faults(builder: EngineBuilder, faults: std::sync::Arc<dyn Faults>) -> EngineBuilder {
    builder.faults(Some(faults))
}

/// Makes sagas due now whose lease was left behind by an engine that died, or which wait for a retry; gives how many.
/// Skips time in tests.
///
/// # Errors
/// When the database is away.
pub async fn skip_waiting(pool: &sqlx::PgPool, dead: Option<crate::WorkerId>) -> Result<u64, sqlx::Error> {
    crate::store::testing::skip_waiting(pool, dead).await
}
