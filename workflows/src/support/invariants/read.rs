//! Checks the invariants of a live database: each query of `invariants.sql` returns the rows that violate one.

use serde::Serialize;
use sqlx::{PgConnection, PgPool};

const SQL: &str = include_str!("../../../invariants.sql");

/// The most violations that are listed for one invariant.
const MAX_LISTED: usize = 20;

/// The result of one invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvariantResult {
    /// The invariant's number.
    pub number: u8,
    /// The statement that has to hold.
    pub name: String,
    /// The violations, up to twenty; empty if the invariant holds.
    pub violations: Vec<String>,
}

impl InvariantResult {
    /// Whether the invariant holds.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Runs all queries on one snapshot of the database, and returns the results by number.
///
/// # Errors
/// When the database refuses or can't be reached, or is not migrated.
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
