//! `sagaline doctor`: checks the invariants against a live database.

use clap::Args;

use crate::{config::Config, database, exit_error::ExitError, invariant_checks, migrate, terminal};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database, instead of `DATABASE_URL`
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

/// Checks the database and prints each invariant with its result.
///
/// # Errors
/// When an invariant is violated, or the database can't be used.
pub(crate) async fn run(config: Config, arguments: Arguments) -> Result<(), ExitError> {
    let url = database::required_url(&config.database, arguments.database_url)?;
    let pool = migrate::connect_migrated(&config.database, &url).await?;
    let results = invariant_checks::run_checks(&config, &pool).await?;
    if invariant_checks::print(&results) {
        terminal::print(format_args!("{url}: every invariant holds"));
        return Ok(());
    }
    let violated = results.iter().filter(|result| !result.holds()).count();
    Err(ExitError::NegativeResult(format!("invariants violated: {violated}")))
}
