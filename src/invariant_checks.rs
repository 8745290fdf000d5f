//! Checks the invariants of a database and prints the results, for `doctor` and `demo`.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use shop::invariants::{self, Coverage, Extent, InvariantResult, Progress, SurveyOptions};
use sqlx::PgPool;

use crate::{
    app::{self, MailTarget},
    config::Config,
    exit_error::ExitError,
    terminal,
};

/// How many violations of one invariant are printed.
const MAX_PRINTED: usize = 3;
/// How often the progress of a long check is printed.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// What was checked, and what was found. Printed with `--json`, so its fields are for others to read.
#[derive(Debug, Serialize)]
pub(crate) struct Findings {
    /// Whether all invariants hold, as far as they were checked.
    pub(crate) holds: bool,
    pub(crate) covered: Coverage,
    pub(crate) invariants: Vec<InvariantResult>,
}

/// Checks every invariant: those stated in SQL, and that every replayed history leads to the stored state, for which it
/// needs the engine. The progress of a long check goes to standard error.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn run_checks(
    config: &Config,
    pool: &PgPool,
    extent: Extent,
) -> Result<Findings, ExitError> {
    // The definitions need a mailer; it sends nothing, because no worker runs.
    let mailer = MailTarget::Files(std::env::temp_dir()).mailer(config, &config.breakers.make())?;
    let shop = app::build_shop(config, pool.clone(), &mailer, None)?;
    let mut next = PROGRESS_INTERVAL;
    let print_progress = |progress: Progress| {
        if progress.elapsed >= next {
            next = progress.elapsed + PROGRESS_INTERVAL;
            terminal::eprint(progress);
        }
    };
    let surveyed = invariants::survey(shop.engine(), SurveyOptions::new(extent), print_progress).await;
    shop.engine().shutdown().await;
    let (invariants, covered) = surveyed.context("the invariants can't be checked")?;
    Ok(Findings { holds: invariants.iter().all(InvariantResult::holds), covered, invariants })
}

/// Prints each invariant with its result, and what was checked.
pub(crate) fn print(findings: &Findings) {
    let rows = findings.invariants.iter().map(|result| {
        let mark = if result.holds() { "✓" } else { "✗" };
        let mut details: Vec<String> = result.violations.iter().take(MAX_PRINTED).cloned().collect();
        if result.violations.len() > MAX_PRINTED {
            details.push(format!("… and {} more", result.violations.len() - MAX_PRINTED));
        }
        let details = if details.is_empty() { "holds".to_owned() } else { details.join("\n") };
        vec![mark.to_owned(), result.number.to_string(), result.name.clone(), details]
    });
    terminal::table(&["", "no.", "invariant", "result"], rows);
    terminal::print(&findings.covered);
}
