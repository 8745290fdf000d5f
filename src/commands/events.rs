//! `sagaline events`: lists the consumers of events, removes one, or publishes events to one again.

use clap::{Args, Subcommand};
use shop::{
    commands::{self, Removal, RemovalMode},
    events::{self, LowWaterMarks, Replay},
};
use sqlx::PgPool;

use crate::{audit_actor, config::Config, database_source::on_existing, exit_error::ExitError, terminal};

/// Commands on events and their consumers.
#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// List the consumers that events are published to, and how far behind each is
    Consumers(ConsumersArguments),
    /// Remove a consumer, so that old events are no longer kept for it
    Remove(RemoveArguments),
    /// Publish events to a consumer again
    Replay(ReplayArguments),
}

/// Arguments of `events consumers`.
#[derive(Debug, Args)]
pub(crate) struct ConsumersArguments {
    /// The database, instead of `DATABASE_URL` or that of a running `sagaline dev`
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

/// Arguments of `events remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// The consumer, as `consumers` lists it
    name: String,
    /// Remove it although a worker publishes to it now. That worker stops publishing; started again, it publishes all
    /// events that are kept
    #[arg(long)]
    force: bool,
    /// The reason, for the audit log
    #[arg(long, value_parser = audit_actor::parse_reason)]
    reason: Option<String>,
    /// The database, instead of `DATABASE_URL` or that of a running `sagaline dev`
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

/// Arguments of `events replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// The consumer, as `consumers` lists it
    #[arg(long, value_name = "NAME")]
    consumer: String,
    /// The first event to publish: its id, or a time such as 2026-11-22T10:00:00Z, which means the first event at or
    /// after that time
    #[arg(long, value_name = "EVENT|TIME")]
    from: Replay,
    /// The reason, for the audit log
    #[arg(long, value_parser = audit_actor::parse_reason)]
    reason: Option<String>,
    /// The database, instead of `DATABASE_URL` or that of a running `sagaline dev`
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When the database can't be used, or there is no such consumer.
pub(crate) async fn run(config: Config, command: EventsCommand) -> Result<(), ExitError> {
    match command {
        EventsCommand::Consumers(ConsumersArguments { database_url }) => {
            on_existing(&config, database_url, async |pool, _| list(pool).await).await
        }
        EventsCommand::Remove(arguments) => {
            let database_url = arguments.database_url.clone();
            on_existing(&config, database_url, async |pool, _| remove(pool, &arguments).await).await
        }
        EventsCommand::Replay(arguments) => {
            let database_url = arguments.database_url.clone();
            on_existing(&config, database_url, async |pool, _| replay(pool, &arguments).await).await
        }
    }
}

async fn remove(pool: &PgPool, arguments: &RemoveArguments) -> Result<(), ExitError> {
    let (name, reason, actor) = (&arguments.name, arguments.reason.as_deref(), audit_actor::current());
    let mode = if arguments.force { RemovalMode::Force } else { RemovalMode::Safe };
    let removed = commands::remove_consumer(pool, name, mode, reason, actor.as_str()).await;
    match removed.map_err(anyhow::Error::from)? {
        Removal::Done => {
            terminal::print(format_args!(
                "{name} is removed. A worker that is configured to publish to it registers it again when it starts, and \
                 then publishes all events that are kept."
            ));
            Ok(())
        }
        Removal::Unknown => Err(unknown(name)),
        Removal::InUse => Err(ExitError::NegativeResult(format!(
            "a worker publishes to {name} now, and would stop: first remove its setting from all workers and restart \
             them. `--force` removes it all the same."
        ))),
    }
}

async fn replay(pool: &PgPool, arguments: &ReplayArguments) -> Result<(), ExitError> {
    let (name, reason, actor) = (&arguments.consumer, arguments.reason.as_deref(), audit_actor::current());
    let first = commands::replay_events(pool, name, arguments.from, reason, actor.as_str()).await;
    let first = first.map_err(anyhow::Error::from)?.ok_or_else(|| unknown(name))?;
    terminal::print(format_args!("{name} gets event {first} and all that follow again."));
    Ok(())
}

async fn list(pool: &PgPool) -> Result<(), ExitError> {
    let consumers = events::consumers(pool).await.map_err(anyhow::Error::from)?;
    let lag = events::lag(pool, &LowWaterMarks::default()).await.map_err(anyhow::Error::from)?;
    let rows = consumers.iter().map(|consumer| {
        let behind = lag.consumers.iter().find(|lag| lag.name == consumer.name);
        vec![
            consumer.name.clone(),
            consumer.last_event_id.to_string(),
            behind.map_or_else(String::new, |lag| lag.events.to_string()),
            behind.map_or_else(String::new, |lag| format!("{:.0} s", lag.seconds)),
            if consumer.claimed { "yes" } else { "no" }.into(),
            consumer.updated_at.format("%Y-%m-%d %H:%M").to_string(),
        ]
    });
    terminal::table(
        &["consumer", "last event", "events behind", "behind for", "has a publisher", "last change"],
        rows,
    );
    terminal::print(format_args!(
        "{} events are kept; {} wait in the outbox.",
        lag.kept_events, lag.waiting_events
    ));
    Ok(())
}

fn unknown(name: &str) -> ExitError {
    ExitError::NegativeResult(format!(
        "no consumer is named `{name}`; `sagaline events consumers` lists them"
    ))
}
