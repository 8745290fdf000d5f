//! Lists and counts with a time limit, for those that may have to look at many rows before they have an answer, so that
//! none of them holds a connection for long.

use sqlx::{PgConnection, PgPool};

/// The time limit of one list or count, in milliseconds.
const TIME_LIMIT_MS: u32 = 2000;

/// What a list or a count has to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListCost {
    /// About as many rows as it returns: an index leads to them.
    Indexed,
    /// Perhaps many rows, so it has a time limit.
    MayScan,
}

impl ListCost {
    /// [`ListCost::MayScan`] if the condition holds.
    pub fn may_scan_if(condition: bool) -> Self {
        if condition { Self::MayScan } else { Self::Indexed }
    }
}

/// A list could not be read, or its rows could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Too many rows would have to be looked at.
    #[error(
        "there was no answer within 2 s: narrow the filter, for example to a customer, a definition or a shorter time"
    )]
    Timeout,
    /// The database refused or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

impl ListError {
    /// The error as one of the database, for callers to whom a time-out is like any other.
    pub(crate) fn into_database(self) -> sqlx::Error {
        match self {
            Self::Timeout => crate::support::connection::timed_out("there was no answer in time"),
            Self::Database(error) => error,
        }
    }
}

/// Reads a list or a count with a connection of the pool, within the time limit if it may scan.
///
/// # Errors
/// See [`ListError`]; what is [indexed](ListCost::Indexed) never times out.
pub async fn read_list<T>(
    pool: &PgPool,
    cost: ListCost,
    read: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, ListError> {
    match cost {
        ListCost::Indexed => Ok(read(&mut *pool.acquire().await?).await?),
        ListCost::MayScan => {
            let mut tx = pool.begin().await?;
            sqlx::query("select set_config('statement_timeout', $1, true)")
                .bind(TIME_LIMIT_MS.to_string())
                .execute(&mut *tx)
                .await?;
            let list = read(&mut tx).await.map_err(refused)?;
            tx.commit().await?;
            Ok(list)
        }
    }
}

/// Recognises the time limit by PostgreSQL's code for a cancelled statement.
fn refused(error: sqlx::Error) -> ListError {
    let is_cancelled =
        error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("57014"));
    if is_cancelled { ListError::Timeout } else { ListError::Database(error) }
}
