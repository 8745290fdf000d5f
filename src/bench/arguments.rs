//! Arguments of `bench`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::{config::parse_duration, terminal};

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// The engine alone: start, three recorded steps that do nothing, end
    Steps(StepsArguments),
    /// Sagas that wait for a signal, each from its signal until it has ended
    Signals(SignalsArguments),
    /// Sagas with a child for each of many items, each until all of them have ended
    Children(ChildrenArguments),
    /// Orders over HTTP, each until its saga has ended
    Orders(OrdersArguments),
    /// Measure nothing, but fill an empty database with orders that have ended, each with its two sagas
    Fill(FillArguments),
}

/// What to fill a database with.
#[derive(Clone, Debug, Args)]
pub(crate) struct FillArguments {
    /// How many sagas: half of them placements of orders, half deliveries of their mails
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000_000))]
    pub(super) sagas: u32,
    /// How many of the newest orders have lines, a timeline, a ledger and histories, so that every invariant holds; all
    /// unless set
    #[arg(long)]
    pub(super) detailed: Option<u32>,
    /// The database, instead of `DATABASE_URL`
    #[arg(long, value_name = "URL")]
    pub(super) database_url: Option<String>,
}

/// How to measure.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// How many callers there are at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) callers: u32,
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) seconds: u64,
    /// How long to warm up before that, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(super) warm_up: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(super) json: bool,
    /// The server to measure on, instead of `DATABASE_URL` or the embedded default; a database is created there
    #[arg(long, value_name = "URL")]
    pub(super) database_url: Option<String>,
}

/// How to measure steps.
#[derive(Clone, Debug, Args)]
pub(crate) struct StepsArguments {
    #[command(flatten)]
    pub(super) arguments: Arguments,
    /// How many graphs of the saga are registered: the one that is started and others, as after so many deploys
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) graphs: u32,
}

/// How to measure signals.
#[derive(Clone, Debug, Args)]
pub(crate) struct SignalsArguments {
    #[command(flatten)]
    pub(super) arguments: Arguments,
    /// Who sends the signals and waits for the ends
    #[arg(long, value_enum, default_value_t = Sender::Worker)]
    pub(super) sender: Sender,
}

/// How to measure children.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChildrenArguments {
    #[command(flatten)]
    pub(super) arguments: Arguments,
    /// How many children each saga has; the rate counts these
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) children: u32,
    /// How many of them are open at a time
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) at_most: u32,
}

/// Who sends signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sender {
    /// The engine that works on the queue
    Worker,
    /// Another engine, with connections of its own, as in another process
    Other,
}

/// How to measure orders.
#[derive(Clone, Debug, Args)]
pub(crate) struct OrdersArguments {
    #[command(flatten)]
    pub(super) arguments: Arguments,
    /// Interrupt the mail server for this long under load (such as 60s), measure before, during and after it, and count mails
    #[arg(long, value_name = "DURATION", value_parser = outage_length)]
    pub(super) mail_outage: Option<Duration>,
    /// How the mail server fails
    #[arg(long, value_enum, default_value_t = Outage::Refuse, requires = "mail_outage")]
    pub(super) mail_outage_by: Outage,
}

/// How a mail server can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Outage {
    /// It closes every connection at once
    Refuse,
    /// It takes connections and says nothing
    Hang,
}

impl Outage {
    pub(super) fn name(self) -> &'static str {
        self.into()
    }
}

impl Arguments {
    /// Says what comes, on standard error: the result is minutes away.
    pub(super) fn announce(&self, name: &str) {
        terminal::eprint(format_args!(
            "bench {name}: {} callers, {} s to warm up and {} s to measure, on a database of its own",
            self.callers, self.warm_up, self.seconds
        ));
    }

    pub(super) fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    pub(super) fn warm_up(&self) -> Duration {
        Duration::from_secs(self.warm_up)
    }
}

fn outage_length(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_secs(1)..=Duration::from_hours(1);
    let length = parse_duration(text).filter(|length| bounds.contains(length));
    length.ok_or_else(|| "a duration of one second to an hour with its unit, such as 60s".into())
}
