//! `sagaline bench`: throughput, latency and commits of the engine alone, of signals, of children, or of orders over HTTP.
//!
//! The load is closed-loop: every caller waits until its saga has ended before it starts the next one. Each run has its
//! own database, which is dropped afterwards. The figures of the server are read after every connection is closed,
//! because connections report theirs only then.

mod arguments;
mod children;
mod database;
mod fill;
mod load;
mod orders;
mod outage;
mod profile;
mod report;
mod running_shop;
mod server;
mod signals;
mod steps;

use self::{
    arguments::{Arguments, ChildrenArguments, OrdersArguments, SignalsArguments, StepsArguments},
    database::BenchDatabase,
    load::Load,
    server::ServerFigures,
};
use crate::{
    config::Config,
    exit_error::ExitError,
    shutdown::{self, Interrupted},
};

pub(crate) use self::arguments::BenchCommand;

/// Runs the measurement and prints the results.
///
/// # Errors
/// When the binary was built without optimisation, the database can't be used, or a call failed.
pub(crate) async fn run(config: Config, command: BenchCommand) -> Result<(), ExitError> {
    if !matches!(command, BenchCommand::Fill(_)) {
        profile::check()?;
    }
    let (name, arguments) = match &command {
        BenchCommand::Fill(arguments) => return Box::pin(fill::run(&config, arguments)).await,
        BenchCommand::Steps(StepsArguments { arguments, .. }) => ("steps", arguments.clone()),
        BenchCommand::Signals(SignalsArguments { arguments, .. }) => ("signals", arguments.clone()),
        BenchCommand::Children(ChildrenArguments { arguments, .. }) => ("children", arguments.clone()),
        BenchCommand::Orders(OrdersArguments { arguments, mail_outage: None, .. }) => {
            ("orders", arguments.clone())
        }
        BenchCommand::Orders(OrdersArguments { arguments, mail_outage: Some(length), mail_outage_by }) => {
            return Box::pin(outage::run(&config, arguments, *length, *mail_outage_by)).await;
        }
    };
    let quit = shutdown::on_signal_before_cleanup()?;
    arguments.announce(name);
    let database = BenchDatabase::create(&config, arguments.database_url.as_deref()).await?;
    // Ctrl-C ends the run early; the database is dropped nevertheless.
    let measured = tokio::select! {
        biased;
        () = quit.cancelled() => Err(Interrupted.into()),
        measured = measure(&config, &command, &arguments, &database) => measured,
    };
    let dropped = database.drop_database().await;
    let (load, server) = measured?;
    dropped?;
    report::print(name, &arguments, &load, &server);
    if load.failures > 0 {
        return Err(ExitError::NegativeResult(format!(
            "{} of the calls failed; the first: {}",
            load.failures,
            load.first_failure()
        )));
    }
    Ok(())
}

async fn measure(
    config: &Config,
    command: &BenchCommand,
    arguments: &Arguments,
    database: &BenchDatabase,
) -> anyhow::Result<(Load, ServerFigures)> {
    database.migrate().await?;
    let before = server::counters(database).await?;
    let load = match command {
        BenchCommand::Steps(arguments) => steps::run(config, arguments, database).await?,
        BenchCommand::Signals(arguments) => signals::run(config, arguments, database).await?,
        BenchCommand::Children(arguments) => children::run(config, arguments, database).await?,
        BenchCommand::Orders(_) => orders::run(config, arguments, database).await?,
        BenchCommand::Fill(_) => anyhow::bail!("`fill` measures nothing"),
    };
    let after = server::counters(database).await?;
    let figures = server::figures(database, &before, &after, load.all_sagas()).await?;
    Ok((load, figures))
}
