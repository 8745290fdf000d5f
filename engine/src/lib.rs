//! Durable sagas on PostgreSQL.
//!
//! A **saga** is a named graph of **steps** with an **undo** beside each action. The engine keeps every step's result in
//! PostgreSQL, goes on after any crash, and when a step fails for good, when somebody cancels or when a deadline passes,
//! it undoes what was done, in reverse order, by itself.
//!
//! Five nouns carry the rest:
//! - a [`Definition`] is a checked graph of [`TransactionStep`]s and [`CallStep`]s, built with [`Saga`];
//! - a saga ([`SagaId`], [`SagaView`]) is one run of a definition;
//! - an **attempt** is one try at a step's action or undo; the history has a row for each ([`HistoryEntry`]);
//! - a **claim** is a lease on a saga with an **epoch** that fences its holder's writes;
//! - a [`DeadJob`] is a saga parked for a person.
//!
//! The engine never runs code again to find out where it was, so there is no determinism rule to break.
//!
//! Transaction steps work on *batches*: all the sagas that stand at a step share one transaction with their history and
//! their moves, and take effect exactly once. Call steps happen at least once, every attempt with the same idempotency
//! key.

mod advance;
mod audit;
mod builder;
mod burial;
mod claim;
mod clock;
mod cursor;
mod engine;
mod erased;
mod error;
mod expiry;
mod faults;
mod feed;
mod fold;
mod graph;
mod guard;
mod hold;
mod ids;
mod inner;
mod job;
mod keeper;
mod lane;
mod look;
mod meters;
mod nul;
mod operate;
mod outcome;
mod overdue;
mod queues;
mod retry;
mod saga;
mod start;
mod starter;
mod status;
mod step;
mod store;
mod strangers;
mod tally;
pub mod testing;
mod throttle;
mod trace;
mod trail;
pub mod transition;
mod trouble;
mod tx;
mod upkeep;
mod verify;
mod view;
mod waiters;
mod watch;

pub use audit::{AuditFilter, AuditRecord, AuditSubjectKind};
pub use builder::EngineBuilder;
pub use burial::{DeadJobObserver, DeadLettered};
pub use engine::Engine;
pub use error::{BuildError, CancelError, DeadJobError, GraphError, StartError, StepError};
pub use feed::{DueHook, Feed};
pub use graph::{Graph, Node, Placement, StepKind};
pub use ids::{DeadJobId, SagaId, WorkerId};
pub use job::{Committed, Job, Performed};
pub use meters::describe_metrics;
pub use operate::{BulkLimits, BulkResult, CancelOutcome, DiscardMode, Discarded, Operator};
pub use outcome::{Cause, Counts, Failure, Outcome, Retry, UndoOutcome};
pub use queues::{Pause, QueueSetting, QueueView};
pub use retry::RetryPolicy;
pub use saga::{Definition, Saga, SagaName};
pub use start::{NewSaga, Started};
pub use status::{Direction, Status};
pub use step::{
    Batch, BatchOf, CallStep, ForwardOnly, Item, ItemStep, NothingToUndo, Outcomes, PerItem, PerItemUndo,
    TransactionStep, UndoBatch, UndoCall, UndoItem, UndoItemStep, UndoKind, UndoOutcomes, UndoTransaction,
};
pub use store::{migrate, with_engine_options};
pub use throttle::{Allowance, Throttle};
pub use trace::TraceLink;
pub use transition::DiscardEffect;
pub use tx::Tx;
pub use upkeep::with_timeout;
pub use verify::HistoryViolation;
pub use view::{
    ArchivedDeadJob, DeadJob, DeadJobErrorCount, DeadJobErrorEntry, DeadJobFilter, DeadJobKindCount,
    DeadJobSummary, FinalStatus, HistoryEntry, HistoryOutcome, Page, QueueDepth, SagaFilter, SagaView,
    StatusCount,
};
pub use watch::{StatusChange, StatusObserver};
