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
//! [`targets`] are the places outside that events are published to; what is published, and how far each of them is, is
//! not decided here.

mod backend;
mod carrier;
mod commit;
mod meter;
mod perform;
mod queue;
mod shared_rates;
pub mod targets;
mod workers;

pub use backend::EngineBackend;
pub use carrier::{RedisHealth, RedisOptions, RedisState};
pub use commit::{CommitLayer, CommitService};
pub use meter::describe as describe_metrics;
pub use queue::QueueOptions;
pub use shared_rates::{RateTaken, SharedRates};
pub use workers::{Workers, WorkersBuilder, WorkersError};
