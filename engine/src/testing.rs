//! Proves a saga, and tests its steps alone.
//!
//! # A proof
//!
//! [`Proof`] runs a saga with every fault at every step, against a real PostgreSQL, and checks what must hold.
//!
//! ```no_run
//! # use engine::{Definition, NewSaga, testing::Proof};
//! # async fn fresh_database() -> sqlx::PgPool { unimplemented!() }
//! # async fn prove(saga: fn() -> Vec<Definition>, order: fn() -> NewSaga) -> Result<(), Box<dyn std::error::Error>> {
//! let report = Proof::of("place-order", fresh_database, saga, order)
//!     .unchanged("select sku, available from stock")
//!     .check(|run| async move {
//!         // Look at your own tables here; `run.saga_id` and `run.final_status` say which saga it was.
//!         (run.effects_of("reserve-stock") <= 1).then_some(()).ok_or_else(|| "reserved twice".into())
//!     })
//!     .run()
//!     .await?;
//! assert!(report.violations.is_empty(), "{report}");
//! # Ok(()) }
//! ```
//!
//! Each case has a batch of sagas ([`Proof::batch`]), a fault ([`Kind`]) at a step, and the sagas that it strikes
//! ([`Struck`]):
//!
//! - an action crashes before or after its commit, fails for good, fails every time, or says no of its own
//!   ([`Proof::says_no`]); a caller cancels there; a call takes effect and its answer is lost;
//! - an undo crashes before or after its commit, or fails until an operator retries it;
//! - a signal comes early, twice, late, not at all, or when the time is over, too ([`Proof::signal`]);
//! - a child fails, dies and is retried or given up, or ends unheard; a caller cancels meanwhile;
//! - the graph changes while sagas are at a step ([`Proof::earlier`]).
//!
//! A case passes if the history of each saga, and of its children, is one that can be; if it ends as it must; if what
//! [`Proof::unchanged`] names is as before when all have compensated; and if [`Proof::check`] agrees. Time is skipped.
//!
//! # A step alone
//!
//! [`item`], [`batch`] and [`tx`] are what an action gets, [`undo_item`] and [`undo_batch`] what an undo gets. They
//! need no engine, and a call needs no database either. [`all_items`] reads the items of a `for_each` in pages.
//!
//! # The engine itself
//!
//! [`Faults`] are injected with [`with_faults`], [`FailPoint`] ends a real process, and [`make_all_due`],
//! [`end_waits`], [`expire_leases`] and [`find_forgotten`] skip time.

mod all_items;
mod fail_point;
mod hooks;
mod invariants;
mod items;
mod proof;
mod step_tx;

pub use crate::support::faults::{DisabledGuard, Fault, FaultPoint, Faults};
pub use all_items::all_items;
pub use fail_point::FailPoint;
pub use hooks::{end_waits, expire_leases, find_forgotten, make_all_due, with_faults};
pub use invariants::history_violations;
pub use items::{batch, batch_of, item, item_with_context, undo_batch, undo_item};
pub use proof::{Case, CaseDatabase, Databases, Kind, Proof, ProofError, Report, Run, Struck, Violation};
pub use step_tx::{SentSignal, StartedSaga, StepTx, tx};
