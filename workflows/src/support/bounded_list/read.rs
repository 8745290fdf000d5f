//! Lists that may look at many rows before a page is full: bounded in time, so that none holds a connection for long.
//!
//! Why not an index for each: what such lists look for is the status of orders and mails, and what is low, and these are
//! the columns that change. An index on one of them, or a partial one whose predicate names it, would end HOT updates for
//! every change of every row, which costs each order more than these lists cost the few who ask for them.

use sqlx::{FromRow, PgPool, Postgres, QueryBuilder, postgres::PgRow};

/// How long the database may look, in milliseconds.
const SCAN_TIMEOUT_MS: u32 = 2000;

/// A list was not read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Too many rows would have to be looked at.
    #[error("no page was found within 2 s: narrow the list, to a customer, a category or a shorter time")]
    Timeout,
    /// The database refused or is away.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Reads a page of such a list.
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

/// PostgreSQL says so by the code of a statement that was cancelled.
fn refused(error: sqlx::Error) -> ListError {
    let is_cancelled =
        error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("57014"));
    if is_cancelled { ListError::Timeout } else { ListError::Database(error) }
}
