//! `sagaline migrate`: brings the schemas `engine` and `shop` up to date.

use clap::Args;

use crate::{
    config::Config,
    database,
    exit_error::ExitError,
    migrate::{self, DatabaseLocation},
    pool::PoolUse,
    telemetry::Telemetry,
    terminal,
};

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database, instead of `DATABASE_URL`
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Grant this role what `serve`, `work` and `doctor` need, and nothing else; the role must exist
    #[arg(long, value_name = "ROLE")]
    grant_to: Option<String>,
}

/// Migrates the schemas `engine` and `shop`, stores how long audits are kept, and grants a role what a process needs;
/// several processes that migrate at once wait for each other.
///
/// # Errors
/// When the database can't be used or a migration fails.
pub(crate) async fn run(config: Config, arguments: Arguments) -> Result<(), ExitError> {
    let telemetry = Telemetry::install(&config.telemetry, "migrate")?;
    let url = database::required_url(&config.database, arguments.database_url)?;
    let pool = database::connect(&url, PoolUse::Command, 2, config.database.startup_wait).await?;
    let grant_to = arguments.grant_to.as_deref();
    migrate::provision(&pool, &DatabaseLocation::Url, &config.retention, grant_to).await?;
    terminal::print(format_args!("{url} is up to date"));
    telemetry.flush().await;
    Ok(())
}
