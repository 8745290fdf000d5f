//! Checks the invariants of a database and prints the results, for `doctor` and `demo`.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use shop::{
    invariants::{self, Coverage, Extent, InvariantResult, Progress, SurveyOptions},
    inventory::{self, OutdatedSku},
};
use sqlx::PgPool;

use crate::{
    app::{self, MailTarget},
    config::Config,
    exit_error::ExitError,
    terminal,
};

/// How many violations of one invariant are printed.
const MAX_PRINTED: usize = 3;
/// How many SKUs that break the rules for new ones are named.
const MAX_NOTES: usize = 20;
/// How often the progress of a long check is printed.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// What was checked, and what was found. Printed with `--json`, so its fields are for others to read.
#[derive(Debug, Serialize)]
pub(crate) struct Findings {
    /// Whether all invariants hold, as far as they were checked.
    pub(crate) holds: bool,
    pub(crate) covered: Coverage,
    pub(crate) invariants: Vec<InvariantResult>,
    /// What is no violation, and should be known: products whose SKU was created under older rules.
    pub(crate) notes: Vec<String>,
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
    let outdated = inventory::outdated_skus(pool, MAX_NOTES + 1).await;
    shop.engine().shutdown().await;
    let (invariants, covered) = surveyed.context("the invariants can't be checked")?;
    let notes = notes(&outdated.context("the SKUs can't be checked")?);
    Ok(Findings { holds: invariants.iter().all(InvariantResult::holds), covered, invariants, notes })
}

/// One line a product. All but plain characters are written as numbers, because these SKUs look like others.
fn notes(outdated: &[OutdatedSku]) -> Vec<String> {
    let note = |found: &OutdatedSku| {
        let OutdatedSku { product_id, sku, rule } = found;
        format!("the SKU `{}` of product {product_id} {rule}", sku.escape_default())
    };
    let mut notes: Vec<String> = outdated.iter().take(MAX_NOTES).map(note).collect();
    if outdated.len() > MAX_NOTES {
        notes.push("more SKUs break the rules for new ones".into());
    }
    notes
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
    for note in &findings.notes {
        terminal::print(format_args!("note: {note}"));
    }
}
