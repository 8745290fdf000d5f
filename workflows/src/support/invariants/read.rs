//! Checks a live database against what is promised: `invariants.sql`, where every query returns no row when all is
//! well.

use serde::Serialize;
use sqlx::{PgConnection, PgPool};

const SQL: &str = include_str!("../../../invariants.sql");

/// So many violations of one invariant are listed.
const MAX_LISTED: usize = 20;

/// What one invariant came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvariantResult {
    /// Its number.
    pub number: u8,
    /// What it promises.
    pub name: String,
    /// Where it does not hold, up to twenty; empty when all is well.
    pub violations: Vec<String>,
}

impl InvariantResult {
    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Runs every query on one snapshot of the database, and gives the results by number.
///
/// # Errors
/// When the database refuses or is away, or is not migrated.
pub async fn check(pool: &PgPool) -> Result<Vec<InvariantResult>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    snapshot(&mut tx).await?;
    check_in(&mut tx).await
}

/// As [`check`], in the caller's transaction.
///
/// # Errors
/// As [`check`].
pub async fn check_in(conn: &mut PgConnection) -> Result<Vec<InvariantResult>, sqlx::Error> {
    let mut results = Vec::new();
    for Query { number, name, sql } in queries(SQL) {
        let mut violations: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *conn).await?;
        let more = violations.len().saturating_sub(MAX_LISTED);
        violations.truncate(MAX_LISTED);
        if more > 0 {
            violations.push(format!("and {more} more"));
        }
        results.push(InvariantResult { number, name: name.into(), violations });
    }
    Ok(results)
}

async fn snapshot(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("set transaction isolation level repeatable read, read only").execute(conn).await?;
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Query {
    number: u8,
    name: &'static str,
    sql: &'static str,
}

/// Splits the file at its `-- name:` lines.
fn queries(file: &'static str) -> impl Iterator<Item = Query> {
    file.split("-- name: ").skip(1).filter_map(|section| {
        let (title, sql) = section.split_once('\n')?;
        let (number, name) = title.split_once(' ')?;
        Some(Query { number: number.parse().ok()?, name: name.trim(), sql })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_of_the_file_is_a_query_with_a_number_and_a_name() {
        let sections = SQL.matches("-- name: ").count();
        let queries: Vec<Query> = queries(SQL).collect();
        assert_eq!(queries.len(), sections);
        let numbers: Vec<u8> = queries.iter().map(|query| query.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
    }
}
