//! Sagaline's one binary: configuration, wiring and subcommands; the only place that knows all parts.
//!
//! [`run`] is the whole program. [`migrate()`] and [`describe_metrics`] are public because tests use them too.

mod app;
mod audit_actor;
mod bench;
mod cli;
mod commands;
mod config;
mod database;
mod database_source;
mod demo;
mod exit_error;
mod http_client;
mod invariant_checks;
mod migrate;
mod pool;
mod scratch;
mod shutdown;
mod telemetry;
mod terminal;

pub use cli::run;
pub use migrate::migrate;
pub use telemetry::describe_metrics;
