//! Sagaline's one binary: configuration, wiring and subcommands; the only place that knows all parts.
//!
//! [`run`] is the whole program. [`embedded`], [`mailcatcher`], [`migrate()`] and
//! [`describe_metrics`] are public because tests use them too.

pub mod embedded;
pub mod mailcatcher;

mod app;
mod cli;
mod commands;
mod config;
mod console;
mod database;
mod examination;
mod failure;
mod migrate;
mod pool;
mod processor_time;
mod scratch;
mod shutdown;
mod telemetry;
mod terminal;

pub use cli::run;
pub use migrate::migrate;
pub use telemetry::describe_metrics;
