//! Lists that may scan many rows before a page is full. They have a time limit, so that none of them holds a connection
//! for long.
//!
//! They have no indexes on purpose. They filter by the status of orders and mails and by low stock, columns that change
//! often. An index on such a column, or a partial index with it in its predicate, would end HOT updates for every
//! change of every row. That costs each order more than these lists cost their few callers.

use sqlx::{FromRow, PgPool, Postgres, QueryBuilder, postgres::PgRow};

/// The time limit of one query, in milliseconds.
const SCAN_TIMEOUT_MS: u32 = 2000;

/// A list could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Too many rows would have to be scanned.
    #[error("no page was found within 2 s: narrow the list, to a customer, a category or a shorter time")]
    Timeout,
    /// The database refused or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Reads a page of a list, within the time limit.
pub(crate) async fn read<T>(pool: &PgPool, mut query: QueryBuilder<Postgres>) -> Result<Vec<T>, ListError>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    let mut tx = pool.begin().await?;
    sqlx::query("select set_config('statement_timeout', $1, true)")
        .bind(SCAN_TIMEOUT_MS.to_string())
        .execute(&mut *tx)
        .await?;
    let rows = query.build_query_as().fetch_all(&mut *tx).await.map_err(refused)?;
    tx.commit().await?;
    Ok(rows)
}

/// Recognises the time limit by PostgreSQL's code for a cancelled statement.
fn refused(error: sqlx::Error) -> ListError {
    let is_cancelled =
        error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("57014"));
    if is_cancelled { ListError::Timeout } else { ListError::Database(error) }
}
