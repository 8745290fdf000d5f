//! `sagaline keys`: creates, lists and revokes API keys.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use shop::{
    audit::AuditActor,
    commands::{self, KeyError},
    keys::{self, Key, KeyRole, NewKey},
};

use crate::{
    audit_actor,
    config::{Config, parse_duration},
    database_source::on_existing,
    exit_error::ExitError,
    terminal,
};

/// Commands on API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key and print it; its secret is shown only this once and stored nowhere
    Create(CreateArguments),
    /// List all keys, without their secrets
    List(DatabaseArguments),
    /// Revoke a key for good: after five seconds no process accepts it, and its event streams end after twenty at the
    /// latest
    Revoke(RevokeArguments),
}

/// Arguments of `keys create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// The name of its holder, under which the audit records what is changed with it
    #[arg(long)]
    name: String,
    /// What it permits: read; write (orders, products, stock, notifications); operate (all)
    #[arg(long)]
    role: KeyRole,
    /// How long it is valid, such as 90d; forever if left out
    #[arg(long, value_name = "DURATION", value_parser = life)]
    expires: Option<Duration>,
    /// The reason, for the audit log
    #[arg(long, value_parser = audit_actor::parse_reason)]
    reason: Option<String>,
    #[command(flatten)]
    database: DatabaseArguments,
}

/// Arguments of `keys revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArguments {
    /// The key's id, as `keys list` shows it
    key_id: String,
    /// The reason, for the audit log
    #[arg(long, value_parser = audit_actor::parse_reason)]
    reason: Option<String>,
    #[command(flatten)]
    database: DatabaseArguments,
}

/// The database to use.
#[derive(Debug, Args)]
pub(crate) struct DatabaseArguments {
    /// The database, instead of `DATABASE_URL` or that of a running `sagaline dev`
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When the database can't be used, an argument is invalid, or there is no such key.
pub(crate) async fn run(config: Config, command: KeysCommand) -> Result<(), ExitError> {
    match command {
        KeysCommand::Create(arguments) => create(&config, arguments).await,
        KeysCommand::List(database) => list(&config, database).await,
        KeysCommand::Revoke(arguments) => revoke(&config, arguments).await,
    }
}

async fn create(config: &Config, arguments: CreateArguments) -> Result<(), ExitError> {
    let new = NewKey { name: arguments.name, role: arguments.role, life: arguments.expires };
    let (actor, reason) = (audit_actor::current(), arguments.reason.as_deref());
    let (key, token) = on_existing(config, arguments.database.database_url, async |pool, _| {
        commands::create_key(pool, &new, reason, &AuditActor::from(actor.as_str())).await.map_err(failure)
    })
    .await?;
    // The token alone goes to standard output, so that it can be piped into where secrets are kept.
    terminal::eprint(format_args!(
        "Created the key {} for `{}` ({}{}). It is shown only this once:",
        key.key_id,
        key.name,
        key.role,
        key.expires_at.map(|at| format!(", until {}", at.format("%Y-%m-%d %H:%M UTC"))).unwrap_or_default()
    ));
    terminal::write(&format!("{}\n", token.expose())).context("can't print the key")?;
    Ok(())
}

async fn list(config: &Config, database: DatabaseArguments) -> Result<(), ExitError> {
    let keys = on_existing(config, database.database_url, async |pool, _| {
        Ok(keys::list(pool).await.map_err(anyhow::Error::from)?)
    })
    .await?;
    if keys.is_empty() {
        terminal::print(
            "There is no key: create one with `sagaline keys create --name admin --role operate`",
        );
        return Ok(());
    }
    let header = ["id", "name", "role", "state", "created", "last used"];
    terminal::table(&header, keys.iter().map(row));
    Ok(())
}

async fn revoke(config: &Config, arguments: RevokeArguments) -> Result<(), ExitError> {
    let (actor, reason) = (audit_actor::current(), arguments.reason.as_deref());
    let key = on_existing(config, arguments.database.database_url, async |pool, _| {
        let by = AuditActor::from(actor.as_str());
        commands::revoke_key(pool, &arguments.key_id, reason, &by).await.map_err(failure)
    })
    .await?;
    terminal::print(format_args!("The key {} of `{}` is revoked", key.key_id, key.name));
    Ok(())
}

fn row(key: &Key) -> Vec<String> {
    let time = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M").to_string();
    let state = match (key.revoked_at, key.expires_at, key.is_usable) {
        (Some(at), _, _) => format!("revoked {}", time(at)),
        (None, None, true) => "usable".into(),
        (None, Some(at), true) => format!("usable until {}", time(at)),
        (None, None, false) => "expired".into(),
        (None, Some(at), false) => format!("expired {}", time(at)),
    };
    vec![
        key.key_id.clone(),
        key.name.clone(),
        key.role.to_string(),
        state,
        time(key.created_at),
        key.last_used_at.map_or_else(|| "never".into(), time),
    ]
}

fn life(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a duration with its unit, such as 90d or 12h".into())
}

fn failure(error: KeyError) -> ExitError {
    match error {
        KeyError::Invalid(_) | KeyError::NotFound(_) => ExitError::Unusable(error.to_string()),
        KeyError::Database(error) => ExitError::Other(error.into()),
    }
}
