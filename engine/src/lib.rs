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

mod builder;
mod definition;
mod engine;
mod model;
mod operate;
mod runtime;
mod store;
mod support;
pub mod testing;

pub use builder::EngineBuilder;
pub use definition::{
    observer::{StatusChange, StatusObserver},
    saga::{Definition, Saga, SagaName},
    step::{
        Batch, BatchOf, CallStep, ForwardOnly, Item, ItemStep, NothingToUndo, Outcomes, PerItem, PerItemUndo,
        TransactionStep, UndoBatch, UndoCall, UndoItem, UndoItemStep, UndoKind, UndoOutcomes,
        UndoTransaction,
    },
    tx::Tx,
};
pub use engine::Engine;
pub use model::{
    error::{BuildError, CancelError, DeadJobError, GraphError, StartError, StepError},
    graph::{Graph, Node, Placement, StepKind},
    ids::{DeadJobId, SagaId, WorkerId},
    outcome::{Cause, Counts, Failure, Outcome, Retry, UndoOutcome},
    retry::RetryPolicy,
    status::{Direction, Status},
    transition::{self, DiscardEffect},
    views::{
        ArchivedDeadJob, DeadJob, DeadJobErrorCount, DeadJobErrorEntry, DeadJobFilter, DeadJobKindCount,
        DeadJobSummary, FinalStatus, HistoryEntry, HistoryOutcome, Page, QueueDepth, SagaFilter, SagaView,
        StatusCount,
    },
};
pub use operate::{
    audit::{AuditFilter, AuditRecord, AuditSubjectKind},
    cancel::{CancelOutcome, Operator},
    dead_jobs::{BulkLimits, BulkResult, DiscardMode, Discarded},
    queues::{Pause, QueueSetting, QueueView},
    verify::HistoryViolation,
};
pub use runtime::{
    claim::feed::{DueHook, Feed},
    commit::dead_letter::{DeadJobObserver, DeadLettered},
    job::{Committed, Job, Performed},
    queue::throttle::{Allowance, Throttle},
    start::start_sagas::{NewSaga, Started},
};
pub use store::{migrate, with_engine_options};
pub use support::{connection::with_timeout, metrics::describe_metrics, trace_link::TraceLink};
