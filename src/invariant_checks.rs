//! Checks the invariants of a database and prints the results, for `doctor` and `demo`.

use anyhow::Context;
use shop::invariants::{self, InvariantResult};
use sqlx::PgPool;

use crate::{
    app::{self, MailTarget},
    config::Config,
    exit_error::ExitError,
    terminal,
};

/// How many violations of one invariant are printed.
const MAX_PRINTED: usize = 3;
/// How many sagas' histories are replayed, newest first: a live database may hold millions.
const MAX_HISTORIES: u32 = 20_000;

/// Checks every invariant: those stated in SQL, and that every replayed history leads to the stored state, for which it
/// needs the engine.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn run_checks(config: &Config, pool: &PgPool) -> Result<Vec<InvariantResult>, ExitError> {
    let mut results = invariants::check(pool).await.context("the invariants can't be checked")?;
    results.push(histories(config, pool).await?);
    Ok(results)
}

async fn histories(config: &Config, pool: &PgPool) -> Result<InvariantResult, ExitError> {
    // The definitions need a mailer; it sends nothing, because no worker runs.
    let mailer = MailTarget::Files(std::env::temp_dir()).mailer(config, &config.breakers.make())?;
    let shop = app::build_shop(config, pool.clone(), &mailer, None)?;
    let violations = shop.engine().verify_histories(MAX_HISTORIES).await;
    shop.engine().shutdown().await;
    let violations = violations.context("the histories can't be read")?;
    Ok(InvariantResult {
        number: 8,
        name: format!("histories fold to the stored state (the newest {MAX_HISTORIES} sagas)"),
        violations: violations
            .into_iter()
            .map(|violation| format!("saga {}: {}", violation.saga_id, violation.violation))
            .collect(),
    })
}

/// Prints each invariant with its result; returns whether all hold.
pub(crate) fn print(results: &[InvariantResult]) -> bool {
    let rows = results.iter().map(|result| {
        let mark = if result.holds() { "✓" } else { "✗" };
        let mut details: Vec<String> = result.violations.iter().take(MAX_PRINTED).cloned().collect();
        if result.violations.len() > MAX_PRINTED {
            details.push(format!("… and {} more", result.violations.len() - MAX_PRINTED));
        }
        let details = if details.is_empty() { "holds".to_owned() } else { details.join("\n") };
        vec![mark.to_owned(), result.number.to_string(), result.name.clone(), details]
    });
    terminal::table(&["", "no.", "invariant", "result"], rows);
    results.iter().all(InvariantResult::holds)
}
