//! Keeps sagas moving: apalis workers over the engine's claims.
//!
//! The saga row itself is the job, so there is no second jobs table to keep in step. [`EngineBackend`] hands the
//! engine's claimed jobs to an apalis worker, [`CommitLayer`] finishes a task only when its group commit is durable,
//! and [`Workers`] runs one apalis monitor per queue until it is told to stop. This is the only crate that knows
//! apalis and the queue's Redis.
//!
//! Trouble with the database never reaches apalis: the engine keeps trying, so workers outlive a PostgreSQL restart.
//! Redis, when there is one, carries only hints; PostgreSQL holds all truth and its poll stands behind.
//!
//! [`sinks`] are the places outside that events are published to; what is published, and how far each of them is, is
//! not decided here.

mod backend;
mod commit;
mod due_hints;
mod metrics;
mod perform;
mod queue;
mod redis_rate_limiter;
pub mod sinks;
mod workers;

pub use self::metrics::describe as describe_metrics;
pub use backend::EngineBackend;
pub use commit::{CommitLayer, CommitService};
pub use due_hints::{RedisHealth, RedisOptions, RedisState};
pub use queue::QueueOptions;
pub use redis_rate_limiter::{RateDecision, RedisRateLimiter};
pub use workers::{Workers, WorkersBuilder, WorkersError};
