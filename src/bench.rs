//! `sagaline bench`: how many, how fast, at how many commits each.
//!
//! The load is closed: every caller waits for its saga to end before it begins the next. A database of its own is made
//! for the run and dropped afterwards; figures that a server buffers are read when every connection is closed.

mod load;
mod orders;
mod outage;
mod profile;
mod report;
mod server;
mod steps;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    config::{Config, parse_duration},
    exit_error::ExitError,
    scratch::Scratch,
};

use server::ServerFigures;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Subject {
    /// The engine alone: start, three recorded steps that do nothing, end
    Steps(Arguments),
    /// Orders over HTTP, each until its saga has settled
    Orders(OrdersArguments),
}

/// How to measure.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// How many callers there are at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    callers: u32,
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How long to warm up before that, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3600))]
    warm_up: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// The server to measure on, instead of `DATABASE_URL` or the embedded default; a database is made there
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

/// How to measure orders.
#[derive(Clone, Debug, Args)]
pub(crate) struct OrdersArguments {
    #[command(flatten)]
    arguments: Arguments,
    /// Take the mail server away for so long under load (such as 60s), measure before, during and after it, and count mails
    #[arg(long, value_name = "DURATION", value_parser = outage_length)]
    mail_outage: Option<Duration>,
    /// How the mail server is away
    #[arg(long, value_enum, default_value_t = Outage::Refuse, requires = "mail_outage")]
    mail_outage_by: Outage,
}

/// How a mail server can be away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Outage {
    /// It closes every connection at once
    Refuse,
    /// It takes connections and says nothing
    Hang,
}

impl Outage {
    fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Hang => "hang",
        }
    }
}

fn outage_length(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_secs(1)..=Duration::from_hours(1);
    let length = parse_duration(text).filter(|length| bounds.contains(length));
    length.ok_or_else(|| "a duration of one second to an hour, such as 60s".into())
}

impl Arguments {
    fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn warm_up(&self) -> Duration {
        Duration::from_secs(self.warm_up)
    }
}

/// Measures and prints.
///
/// # Errors
/// When this binary is not optimised, the database can't be used, or a saga did not end well.
pub(crate) async fn run(config: Config, subject: Subject) -> Result<(), ExitError> {
    profile::check()?;
    let (name, arguments) = match &subject {
        Subject::Steps(arguments) => ("steps", arguments.clone()),
        Subject::Orders(OrdersArguments { arguments, mail_outage: None, .. }) => {
            ("orders", arguments.clone())
        }
        Subject::Orders(OrdersArguments { arguments, mail_outage: Some(length), mail_outage_by }) => {
            return Box::pin(outage::run(&config, arguments, *length, *mail_outage_by)).await;
        }
    };
    let scratch = Scratch::create(&config, arguments.database_url.clone(), "bench").await?;
    // Ctrl-C ends the run early; the database is dropped all the same.
    let measured = tokio::select! {
        measured = measure(&config, &subject, &arguments, &scratch) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let dropped = scratch.drop_database().await;
    let (load, server) = measured?;
    dropped?;
    report::print(name, &arguments, &load, &server);
    if load.failures > 0 {
        return Err(ExitError::Negative(format!(
            "{} of the calls failed; the first: {}",
            load.failures,
            load.first_failure()
        )));
    }
    Ok(())
}

async fn measure(
    config: &Config,
    subject: &Subject,
    arguments: &Arguments,
    scratch: &Scratch,
) -> anyhow::Result<(load::Load, ServerFigures)> {
    scratch.migrate().await?;
    let before = server::counters(scratch).await?;
    let load = match subject {
        Subject::Steps(_) => steps::run(config, arguments, scratch).await?,
        Subject::Orders(_) => orders::run(config, arguments, scratch).await?,
    };
    let after = server::counters(scratch).await?;
    let figures = server::figures(scratch, &before, &after, load.all).await?;
    Ok((load, figures))
}
