//! Sagaline's one binary: configuration, wiring and subcommands; the only place that knows all parts.
//!
//! [`run`] is the whole program. [`migrate()`] and [`describe_metrics`] are public because tests use them too.

mod app;
mod cli;
mod commands;
mod config;
mod console;
mod database;
mod database_source;
mod examination;
mod failure;
mod http_client;
mod migrate;
mod pool;
mod scratch;
mod shutdown;
mod telemetry;
mod terminal;

pub use cli::run;
pub use migrate::migrate;
pub use telemetry::describe_metrics;
