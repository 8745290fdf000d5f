//! Reads pages of lists. A page has a limit in rows and one in bytes, because a few large rows can be more than a process
//! has memory for.

use futures::{TryStreamExt, stream::BoxStream};
use sqlx::{FromRow, Row, postgres::PgRow};

use crate::model::page::PageOf;

/// When the rows of a page have this many bytes, as PostgreSQL sends them, the page ends. The last row may go beyond.
pub const PAGE_BYTES: usize = 1024 * 1024;

/// How many rows a statement selects for a page with at most `limit` items: one more shows whether the list goes on.
pub fn page_rows(limit: u32) -> i64 {
    i64::from(limit) + 1
}

/// Reads a page with at most `limit` items from the rows of a statement that selects [`page_rows`] of them.
///
/// What does not belong to the page is read and dropped, one row at a time: a statement that is given up before its end
/// would leave its connection to be cleared up by the pool, without a time-out.
///
/// # Errors
/// When the database refuses or can't be reached, or a row can't be decoded.
pub async fn read_page<T>(
    mut rows: BoxStream<'_, Result<PgRow, sqlx::Error>>,
    limit: u32,
) -> Result<PageOf<T>, sqlx::Error>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let (mut page, mut bytes) = (PageOf::empty(), 0);
    while let Some(row) = rows.try_next().await? {
        page.has_more |= page.items.len() >= limit as usize || bytes >= PAGE_BYTES;
        if page.has_more {
            continue;
        }
        bytes += size(&row);
        page.items.push(T::from_row(&row)?);
    }
    Ok(page)
}

/// The bytes of a row's values.
fn size(row: &PgRow) -> usize {
    let value = |index| row.try_get_raw(index).ok()?.as_bytes().ok().map(<[u8]>::len);
    (0..row.len()).filter_map(value).sum()
}
