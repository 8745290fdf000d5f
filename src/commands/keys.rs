//! `sagaline keys`: makes, lists and revokes API keys.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use shop::{
    audit::AuditActor,
    commands::{self, KeyError},
    keys::{self, Key, KeyRole, NewKey},
};
use sqlx::PgPool;

use crate::{
    audit_actor,
    config::{Config, parse_duration},
    database,
    exit_error::ExitError,
    migrate,
    pool::PoolUse,
    terminal,
};

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Make a key and print it; it is shown this once and kept nowhere
    Create(Creation),
    /// List all keys, without their secrets
    List(Where),
    /// End a key for good: no process lets it in any more after five seconds, and what it follows events with ends after
    /// twenty at the latest
    Revoke(Revocation),
}

/// What `keys create` can be told.
#[derive(Debug, Args)]
pub(crate) struct Creation {
    /// Who is to hold it; changes made with it are recorded under this name
    #[arg(long)]
    name: String,
    /// What it may do: read; write (orders, products, stock, notifications); operate (all)
    #[arg(long)]
    role: KeyRole,
    /// How long it lives, such as 90d; for ever if left out
    #[arg(long, value_name = "DURATION", value_parser = life)]
    expires: Option<Duration>,
    /// Why, for the audit
    #[arg(long, value_parser = audit_actor::parse_reason)]
    reason: Option<String>,
    #[command(flatten)]
    database: Where,
}

/// What `keys revoke` can be told.
#[derive(Debug, Args)]
pub(crate) struct Revocation {
    /// The key's id, as `keys list` shows it
    key_id: String,
    /// Why, for the audit
    #[arg(long, value_parser = audit_actor::parse_reason)]
    reason: Option<String>,
    #[command(flatten)]
    database: Where,
}

/// Which database.
#[derive(Debug, Args)]
pub(crate) struct Where {
    /// The database, instead of `DATABASE_URL`
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

/// Does it.
///
/// # Errors
/// When the database can't be used, the request is wrong, or there is no such key.
pub(crate) async fn run(config: Config, action: Action) -> Result<(), ExitError> {
    match action {
        Action::Create(creation) => create(&config, creation).await,
        Action::List(database) => list(&config, database).await,
        Action::Revoke(revocation) => revoke(&config, revocation).await,
    }
}

async fn create(config: &Config, creation: Creation) -> Result<(), ExitError> {
    let pool = connect(config, creation.database).await?;
    let new = NewKey { name: creation.name, role: creation.role, life: creation.expires };
    let (actor, reason) = (audit_actor::current(), creation.reason.as_deref());
    let (key, token) = commands::create_key(&pool, &new, reason, &AuditActor::from(actor.as_str()))
        .await
        .map_err(failure)?;
    // The token alone goes to standard output, so that it can be piped into where secrets are kept.
    terminal::eprint(format_args!(
        "Made the key {} for `{}` ({}{}). It is shown this once:",
        key.key_id,
        key.name,
        key.role,
        key.expires_at.map(|at| format!(", until {}", at.format("%Y-%m-%d %H:%M UTC"))).unwrap_or_default()
    ));
    terminal::write(&format!("{}\n", token.expose())).context("can't print the key")?;
    Ok(())
}

async fn list(config: &Config, database: Where) -> Result<(), ExitError> {
    let pool = connect(config, database).await?;
    let keys = keys::list(&pool).await.map_err(anyhow::Error::from)?;
    if keys.is_empty() {
        terminal::print("There is no key: make one with `sagaline keys create --name admin --role operate`");
        return Ok(());
    }
    let header = ["id", "name", "role", "state", "created", "expires", "last used"];
    terminal::table(&header, keys.iter().map(row));
    Ok(())
}

async fn revoke(config: &Config, revocation: Revocation) -> Result<(), ExitError> {
    let pool = connect(config, revocation.database).await?;
    let (actor, reason) = (audit_actor::current(), revocation.reason.as_deref());
    let key = commands::revoke_key(&pool, &revocation.key_id, reason, &AuditActor::from(actor.as_str()))
        .await
        .map_err(failure)?;
    terminal::print(format_args!("The key {} of `{}` is revoked", key.key_id, key.name));
    Ok(())
}

async fn connect(config: &Config, database: Where) -> Result<PgPool, ExitError> {
    let url = database::required_url(&config.database, database.database_url)?;
    let pool = database::connect(&url, PoolUse::Command, 2, config.database.startup_wait).await?;
    migrate::require(&pool).await?;
    Ok(pool)
}

fn row(key: &Key) -> Vec<String> {
    let time = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M").to_string();
    let state = match (key.revoked_at, key.is_usable) {
        (Some(at), _) => format!("revoked {}", time(at)),
        (None, true) => "usable".into(),
        (None, false) => "expired".into(),
    };
    vec![
        key.key_id.clone(),
        key.name.clone(),
        key.role.to_string(),
        state,
        time(key.created_at),
        key.expires_at.map_or_else(|| "never".into(), time),
        key.last_used_at.map_or_else(|| "never".into(), time),
    ]
}

fn life(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a duration such as 90d or 12h".into())
}

fn failure(error: KeyError) -> ExitError {
    match error {
        KeyError::Invalid(_) | KeyError::NotFound(_) => ExitError::Unusable(error.to_string()),
        KeyError::Database(error) => ExitError::Other(error.into()),
    }
}
