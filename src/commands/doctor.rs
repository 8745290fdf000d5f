//! `sagaline doctor`: checks the invariants against a live database.

use anyhow::Context;
use clap::Args;
use shop::invariants::{Extent, InvariantResult};

use crate::{
    config::Config, database_source::on_existing, exit_error::ExitError, invariant_checks, terminal,
};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database, instead of `DATABASE_URL` or that of a running `sagaline dev`
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Check everything, instead of what is unfinished, what is new and a random sample; takes long on a large database
    #[arg(long)]
    whole: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Checks the database and prints each invariant with its result, and what was checked.
///
/// # Errors
/// When an invariant is violated, or the database can't be used.
pub(crate) async fn run(config: Config, arguments: Arguments) -> Result<(), ExitError> {
    let extent = if arguments.whole { Extent::Whole } else { Extent::Sample };
    let (findings, url) = on_existing(&config, arguments.database_url, async |pool, url| {
        Ok((invariant_checks::run_checks(&config, pool, extent).await?, url.clone()))
    })
    .await?;
    if arguments.json {
        terminal::print(serde_json::to_string(&findings).context("the findings are no JSON")?);
    } else {
        invariant_checks::print(&findings);
    }
    if findings.holds {
        if !arguments.json {
            let all = if findings.covered.everything { "" } else { " in what was checked" };
            terminal::print(format_args!("{url}: every invariant holds{all}"));
        }
        return Ok(());
    }
    let violated = findings.invariants.iter().filter(|result: &&InvariantResult| !result.holds()).count();
    Err(ExitError::NegativeResult(format!("invariants violated: {violated}")))
}
