//! The `sagaline` binary: configuration, wiring and subcommands. It is the only crate that depends on all others.
//!
//! [`run`] is the whole program. [`describe_metrics`] is public for the test that compares the metrics with their
//! documentation, and [`migrate()`] for the tests' databases.

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
mod sessions;
mod shutdown;
mod telemetry;
mod terminal;
#[cfg(test)]
mod test_cluster;

pub use cli::run;
pub use migrate::migrate;
pub use telemetry::describe_metrics;
