//! Reads pages of lists by a query that is put together from the filter.

use engine::{ListCost, ListError, PageOf, read_list, read_page};
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder, postgres::PgRow};

/// Reads a page of a list, within the time limit if it may scan.
///
/// # Errors
/// See [`ListError`].
pub(crate) async fn read<T>(
    pool: &PgPool,
    cost: ListCost,
    mut query: QueryBuilder<Postgres>,
    limit: u32,
) -> Result<PageOf<T>, ListError>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    read_list(pool, cost, async |conn| read_page(query.build().fetch(conn), limit).await).await
}
