//! Durable sagas on PostgreSQL.
//!
//! A **saga** is a named graph of **steps**, each with an **undo** beside its action. The engine stores the result of
//! every step in PostgreSQL, so a saga continues after a crash. When a step fails for good, a caller cancels or a
//! deadline passes, the engine undoes the finished steps in reverse order.
//!
//! Five nouns carry the rest:
//! - a [`Definition`] is a checked graph of [`TransactionStep`]s and [`CallStep`]s, built with [`Saga`];
//! - a saga ([`SagaId`], [`SagaView`]) is one run of a definition;
//! - an **attempt** is one try at a step's action or undo; the history has a row for each ([`HistoryEntry`]);
//! - a **claim** is a lease on a saga with an **epoch** that fences its holder's writes;
//! - a [`DeadJob`] is a saga that waits for an operator.
//!
//! The engine never runs code again to find out how far a saga got, so there is no rule that steps must be
//! deterministic.
//!
//! Transaction steps work on *batches*: all sagas that have reached a step share one transaction with their history and
//! their new states, and take effect exactly once. Call steps happen at least once, every attempt with the same
//! idempotency key.
//!
//! # First steps
//!
//! An engine works on a pool of its user's, whose connections [`tuned`] sets up for the engine's statements. The crate
//! carries its own migrations: [`migrate`] makes the schema `engine` or brings it up to date, and any number of
//! processes may run it before they build their engines. Sagas move as long as a process works on their queue, with
//! [`Engine::run`] on a [`Feed`]. `examples/trip.rs` shows undos, a pivot and a cancel.
//!
//! ```no_run
//! use std::time::Duration;
//! use engine::{
//!     Batch, Engine, NothingToUndo, Outcome, Outcomes, Saga, SagaName, StepError, TransactionStep, Tx,
//!     sqlx::{PgPool, postgres::PgConnectOptions}, tokio_util::sync::CancellationToken,
//! };
//!
//! #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
//! struct Greeting { name: String }
//!
//! struct Greet;
//! impl TransactionStep for Greet {
//!     const NAME: &'static str = "greet";
//!     type Input = Greeting;
//!     type Output = String;
//!     type Undo = NothingToUndo;
//!     async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Greeting>) -> Result<Outcomes<String>, StepError> {
//!         Ok(batch.decide(|item| Outcome::Done(format!("Hello, {}", item.input.name))))
//!     }
//! }
//!
//! const WELCOME: SagaName<Greeting> = SagaName::new("welcome");
//!
//! # async fn start() -> Result<(), Box<dyn std::error::Error>> {
//! let options: PgConnectOptions = "postgres://localhost/shop".parse()?;
//! let pool = PgPool::connect_with(engine::tuned(options)).await?;
//! engine::migrate(&pool).await?;
//! let engine = Engine::builder(pool).register(Saga::named(WELCOME).then(Greet).build()?).build()?;
//! let stop = CancellationToken::new();
//! let worker = tokio::spawn({
//!     let (engine, stop, mut feed) = (engine.clone(), stop.clone(), engine.feed("default", 64));
//!     async move { engine.run(&mut feed, stop).await }
//! });
//! let greeting = WELCOME.with(&Greeting { name: "Ada".into() });
//! let (started, ending) = engine.start_and_wait(greeting, Duration::from_secs(20)).await?;
//! stop.cancel();
//! worker.await?;
//! engine.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Where to start reading
//!
//! 1. `definition/saga.rs` and `definition/step.rs`: how a saga is written.
//! 2. `model/transition.rs`: how the state of a saga changes, as a pure function.
//! 3. `runtime/commit/advance.rs`: how one transaction advances a batch of sagas.
//! 4. `store/`: the SQL behind it.
//!
//! Imports only go down: `model` < `store`, `definition`, `support` < `runtime` < `engine` < `operate` < `builder` <
//! `testing`.

mod builder;
mod definition;
mod engine;
mod model;
mod operate;
mod runtime;
mod store;
mod support;
#[cfg(feature = "testing")]
pub mod testing;

pub use builder::EngineBuilder;
pub use definition::{
    batch::{Batch, BatchOf, Item, Outcomes, UndoBatch, UndoItem, UndoOutcomes},
    child::{Child, Children, Each},
    item_pages::ItemPages,
    label::Of,
    new_saga::{NewSaga, Started},
    observer::{DeadJobObserver, LateCancel, StatusChange, StatusObserver},
    part::Part,
    saga::{Definition, Saga},
    saga_name::SagaName,
    step::{
        CallStep, ForwardOnly, ItemStep, NothingToUndo, PerItem, PerItemUndo, TransactionStep, UndoCall,
        UndoItemStep, UndoTransaction,
    },
    tx::Tx,
};
pub use engine::Engine;
pub use model::{
    arms::{Arm, Arms},
    audit::{AuditFilter, AuditRecord, AuditSubjectKind, Operator},
    call_error::CallError,
    cause::{CancelOrigin, Cause, OtherCause},
    child::{ChildEnd, ChildOf, ChildResult, ChildrenOf, EachEnded, Joined, LeftChildren},
    dead_job::{
        ArchivedDeadJob, DeadJob, DeadJobErrorCount, DeadJobErrorEntry, DeadJobFilter, DeadJobKindCount,
        DeadJobResolution, DeadJobSummary, DeadLettered,
    },
    dead_job_request::{
        ActionRequested, DeadJobAction, DeadJobOutcome, DeadJobRequest, DiscardMode, RefusedRequest,
    },
    error::{BuildError, CancelError, DeadJobError, GraphError, StartError, StepError},
    error_chain::ErrorChain,
    graph::{ChildrenNode, ChoiceNode, Graph, Node, NodeArm, WaitNode},
    ids::{DeadJobId, SagaId, WorkerId},
    json_pointer::{json_pointer, push_pointer},
    kinds::{Placement, StepKind, UndoKind},
    known_graph::{GraphProcess, KnownGraph},
    outcome::{Counts, Failure, Outcome, Retry, UndoOutcome},
    page::{Page, PageOf},
    process::{ProcessState, ProcessView},
    progress::{Progress, ReportedProgress},
    queue::{Pause, QueueDepth, QueueSetting, QueueView},
    retention::{Pruned, Retention, SagaEnd},
    retry::RetryPolicy,
    signal::{
        Signal, SignalError, SignalMessage, SignalName, SignalReceipt, SignalState, SignalTarget, SignalWait,
        Signalled, Slept,
    },
    signal_view::{KeptSignals, SignalView},
    status::{Direction, Status, StepSide},
    stored_value::Shared,
    transition::{self, DiscardEffect},
    tree::{SagaTree, TreeStep},
    views::{
        FinalStatus, HistoryEntry, HistoryOutcome, SagaFilter, SagaPayload, SagaView, StatusCount,
        WaitingCount,
    },
};
pub use operate::{
    cancel::CancelOutcome,
    dead_jobs::{
        DeadJobEffect, Discarded,
        bulk::{BulkLimits, BulkPlan, BulkResult, PlannedDeadJob},
    },
    in_flight::{InFlight, Prospect},
    moves::{MoveError, MovePlan, MoveResult, PlannedMove},
    retention::set_audit_retention,
    signals::{SkipWaitError, SkippedWait},
    verify::{HistoryViolation, VerifiedHistories},
};
pub use runtime::{
    claim::feed::Feed,
    job::{Committed, Job, Performed},
    queue::{
        feeds::DueHook,
        throttle::{Allowance, Throttle},
    },
    settings::SHORTEST_LEASE,
};
pub use store::{
    ENGINE_SETTINGS, migrate, migrations,
    migrations::{Admission, MigrationError, Migrations, TablePrivileges, Unsuitable},
    saga_lists::UNSETTLED_SAGAS,
    sessions::is_read_only,
    tuned,
};
pub use support::{
    bounded_list::{ListCost, ListError, read_list},
    connection::{is_transient, is_transient_refusal, with_timeout},
    metrics::describe_metrics,
    page::{PAGE_BYTES, page_rows, read_page},
    trace_propagator::TracePropagator,
    writable_sessions::WritableSessions,
};

/// The API's times are of its `DateTime<Utc>`.
pub use chrono;
/// A saga's input derives its `JsonSchema`.
pub use schemars;
/// Details of failures and retries and the stored outputs of a history are its values.
pub use serde_json;
/// An engine works on its `PgPool`, a step on its `PgConnection`, and what PostgreSQL refuses is its `Error`.
pub use sqlx;
/// Its `CancellationToken` stops [`Engine::run`], and tells a call that its saga was cancelled.
pub use tokio_util;
/// A [`TracePropagator`] is given its `Span`s.
pub use tracing;
/// A [`SagaId`] and a [`DeadJobId`] hold its `Uuid`.
pub use uuid;
