//! The command line: parses it and dispatches to the commands.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::{
    bench,
    commands::{check, dev, doctor, events, health, keys, migrate, openapi, serve, work},
    config::Config,
    demo,
    exit_error::ExitError,
};

/// Sagaline: durable sagas on PostgreSQL, and the order system that runs on them.
///
/// Everything is configured by environment variables; `.env.example` lists them.
#[derive(Debug, Parser)]
#[command(name = "sagaline", version, propagate_version = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed, or the result is negative (an invariant is violated, a build can't go on with sagas in flight, a file is stale, \
there is nothing of that name); 2 nothing was done, because the arguments, the environment or the database can't be used; \
130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in one process, on a private PostgreSQL unless `DATABASE_URL` names one
    Dev(dev::Arguments),
    /// Serve the HTTP API
    Serve(serve::Arguments),
    /// Run the sagas
    Work(work::Arguments),
    /// Bring the database's schemas up to date
    Migrate(migrate::Arguments),
    /// Ask a running process of this machine whether it is ready
    Health(health::Arguments),
    /// Print the OpenAPI document, or check a file against it
    Openapi(openapi::Arguments),
    /// Kill the worker and break the mail server of a busy shop, and check that nothing is lost; takes less than a minute
    Demo(demo::Arguments),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Check the invariants of the configured database
    Doctor(doctor::Arguments),
    /// Say, before a deploy, whether this build could go on with the sagas in flight
    Check(check::Arguments),
    /// List the consumers of events, remove one, or publish events to one again
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Measure throughput and latency
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
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
            // It needs no configuration, so it works with an invalid one.
            Command::Openapi(arguments) => openapi::run(&arguments),
            Command::Dev(arguments) => dev::run(config?, arguments).await,
            Command::Serve(arguments) => serve::run(config?, arguments).await,
            Command::Work(arguments) => work::run(config?, arguments).await,
            Command::Health(arguments) => health::run(&config?, arguments).await,
            Command::Migrate(arguments) => migrate::run(config?, arguments).await,
            Command::Demo(arguments) => demo::run(config?, arguments).await,
            Command::Keys(command) => keys::run(config?, command).await,
            Command::Doctor(arguments) => doctor::run(config?, arguments).await,
            Command::Check(arguments) => check::run(config?, arguments).await,
            Command::Events(command) => events::run(config?, command).await,
            Command::Bench(command) => Box::pin(bench::run(config?, command)).await,
        }
    })
}
