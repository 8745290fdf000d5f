//! `sagaline doctor`: checks the invariants against a live database.

use clap::Args;

use crate::{config::Config, database, examination, failure::Failure, migrate, pool::PoolUse, terminal};

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
pub(crate) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let url = database::required_url(&config.database, arguments.database_url)?;
    let pool = database::connect(&url, PoolUse::Command, 2, config.database.startup_wait).await?;
    migrate::require(&pool).await?;
    let verdicts = examination::examine(&config, &pool).await?;
    if examination::print(&verdicts) {
        terminal::say(format_args!("{url}: every invariant holds"));
        return Ok(());
    }
    let violated = verdicts.iter().filter(|verdict| !verdict.holds()).count();
    Err(Failure::Negative(format!("invariants violated: {violated}")))
}
