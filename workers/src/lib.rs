//! The background work of a process: apalis workers that run sagas, and tasks that take events out.
//!
//! The saga row itself is the job, so no second jobs table has to be kept in step. [`EngineBackend`] hands the engine's
//! claimed jobs to an apalis worker, [`CommitLayer`] ends a task only when the job's group commit is durable, and
//! [`Workers`] runs one apalis monitor per queue until it is stopped. This is the only crate that uses apalis, Redis
//! and AMQP.
//!
//! Trouble with the database never reaches apalis: the engine keeps trying, so workers outlive a restart of PostgreSQL.
//! Redis, when there is one, carries only due hints: PostgreSQL holds all truth, and the engine's poll finds what no
//! due hint announces.
//!
//! [`EventTasks`] sequences and prunes an [`EventLog`], which the caller implements, and publishes it to [`sinks`].

mod due_hints;
mod events;
mod metrics;
mod queue;
mod redis_rate_limiter;
pub mod sinks;
mod workers;

pub use self::{
    due_hints::{RedisHealth, RedisOptions, RedisState},
    events::{ConsumerLease, EventLog, EventLogError, EventTasks, LogRange, PageSize, Sequenced},
    metrics::describe_metrics,
    queue::{CommitLayer, CommitService, EngineBackend, QueueOptions},
    redis_rate_limiter::{RateDecision, RedisRateLimiter},
    workers::{Workers, WorkersBuilder, WorkersError},
};
