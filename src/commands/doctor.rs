//! `sagaline doctor`: checks the invariants against a live database.

use clap::Args;

use crate::{
    config::Config, database, exit_error::ExitError, invariant_checks, migrate, pool::PoolUse, terminal,
};

/// What `doctor` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database, instead of `DATABASE_URL`
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

/// Examines the database and prints each invariant with its verdict.
///
/// # Errors
/// When an invariant is violated, or the database can't be used.
pub(crate) async fn run(config: Config, arguments: Arguments) -> Result<(), ExitError> {
    let url = database::required_url(&config.database, arguments.database_url)?;
    let pool = database::connect(&url, PoolUse::Command, 2, config.database.startup_wait).await?;
    migrate::require(&pool).await?;
    let verdicts = invariant_checks::run_checks(&config, &pool).await?;
    if invariant_checks::print(&verdicts) {
        terminal::print(format_args!("{url}: every invariant holds"));
        return Ok(());
    }
    let violated = verdicts.iter().filter(|verdict| !verdict.holds()).count();
    Err(ExitError::Negative(format!("invariants violated: {violated}")))
}
