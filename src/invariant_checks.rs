//! The invariants of a database, with their verdicts: what `doctor` and `demo` print.

use anyhow::Context;
use shop::invariants::{self, InvariantResult};
use sqlx::PgPool;

use crate::{
    app::{self, MailTarget, ThisProcess},
    config::Config,
    exit_error::ExitError,
    terminal,
};

/// How many violations of one invariant are printed.
const SHOWN: usize = 3;
/// How many sagas' histories are folded, newest first: a live database may hold millions.
const HISTORIES: u32 = 20_000;

/// Checks every invariant: those stated in SQL, and that histories fold to what is stored, which needs the engine.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn run_checks(config: &Config, pool: &PgPool) -> Result<Vec<InvariantResult>, ExitError> {
    let mut verdicts = invariants::check(pool).await.context("the invariants can't be checked")?;
    verdicts.push(histories(config, pool).await?);
    Ok(verdicts)
}

async fn histories(config: &Config, pool: &PgPool) -> Result<InvariantResult, ExitError> {
    // The definitions want a mailer; nothing is sent, because nobody works.
    let mailer =
        MailTarget::Files(std::env::temp_dir()).mailer(config, &ThisProcess::new(config, "doctor"))?;
    let shop = app::shop(config, pool.clone(), mailer, None)?;
    let violations = shop.engine().verify_histories(HISTORIES).await;
    shop.engine().shutdown().await;
    let violations = violations.context("the histories can't be read")?;
    Ok(InvariantResult {
        number: 8,
        name: format!("histories fold to the stored state (the newest {HISTORIES} sagas)"),
        violations: violations
            .into_iter()
            .map(|violation| format!("saga {}: {}", violation.saga_id, violation.violation))
            .collect(),
    })
}

/// Prints each invariant with its verdict; whether all hold.
pub(crate) fn print(verdicts: &[InvariantResult]) -> bool {
    let rows = verdicts.iter().map(|verdict| {
        let mark = if verdict.holds() { "✓" } else { "✗" };
        let mut told: Vec<String> = verdict.violations.iter().take(SHOWN).cloned().collect();
        if verdict.violations.len() > SHOWN {
            told.push(format!("… and {} more", verdict.violations.len() - SHOWN));
        }
        let told = if told.is_empty() { "holds".to_owned() } else { told.join("\n") };
        vec![mark.to_owned(), verdict.number.to_string(), verdict.name.clone(), told]
    });
    terminal::table(&["", "no.", "invariant", "verdict"], rows);
    verdicts.iter().all(InvariantResult::holds)
}
