//! The command line: what can be asked for, and who answers.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::{bench, commands, config::Config, demo, exit_error::ExitError};

/// Sagaline: durable sagas on PostgreSQL, and the order system that runs on them.
///
/// Everything is configured by environment variables; `.env.example` lists them.
#[derive(Debug, Parser)]
#[command(name = "sagaline", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in one process, on a private PostgreSQL unless `DATABASE_URL` names one
    Dev(commands::dev::Arguments),
    /// Serve the HTTP API
    Serve(commands::serve::Arguments),
    /// Keep sagas moving
    Work(commands::work::Arguments),
    /// Bring the database's schemas up to date
    Migrate(commands::migrate::Arguments),
    /// Ask a running process of this machine whether it is ready
    Health(commands::health::Arguments),
    /// Print the OpenAPI document, or check a file against it
    Openapi(commands::openapi::Arguments),
    /// Show, in less than a minute, that orders survive what usually loses them
    Demo(demo::Arguments),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Keys(commands::keys::Action),
    /// Check the invariants against the configured database
    Doctor(commands::doctor::Arguments),
    /// See who consumes events, and publish them again
    #[command(subcommand)]
    Events(commands::events::EventsCommand),
    /// Measure
    #[command(subcommand)]
    Bench(bench::Subject),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(command: Command) -> Result<(), ExitError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("sagaline")
        .build()
        .context("can't start the runtime")?;
    let config = Config::from_env();
    runtime.block_on(async {
        match command {
            // It needs no configuration, so a wrong one does not stand in its way.
            Command::Openapi(arguments) => commands::openapi::run(&arguments),
            Command::Dev(arguments) => commands::dev::run(config?, arguments).await,
            Command::Serve(arguments) => commands::serve::run(config?, arguments).await,
            Command::Work(arguments) => commands::work::run(config?, arguments).await,
            Command::Health(arguments) => commands::health::run(&config?, arguments).await,
            Command::Migrate(arguments) => commands::migrate::run(config?, arguments).await,
            Command::Demo(arguments) => demo::run(config?, arguments).await,
            Command::Keys(action) => commands::keys::run(config?, action).await,
            Command::Doctor(arguments) => commands::doctor::run(config?, arguments).await,
            Command::Events(question) => commands::events::run(config?, question).await,
            Command::Bench(subject) => Box::pin(bench::run(config?, subject)).await,
        }
    })
}
