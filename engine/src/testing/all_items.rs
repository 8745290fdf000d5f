//! Reads a list as an engine does, without one.

use std::collections::HashMap;

use sqlx::{Connection, PgConnection};

use crate::{
    definition::item_pages::ItemPages,
    model::{error::StepError, stored_value::StoredValue},
};

/// The sizes of the pages in which a list is read.
const SIZES: [u32; 3] = [1, 3, 500];

/// Reads the items of a list in pages, as a `for_each` does, each time from the stored form of the last one, and without a
/// right to write. It does so with pages of one item, of three and of 500, and all have to give the same items, as many as
/// are counted.
///
/// ```no_run
/// # use engine::{ItemPages, StepError, sqlx::{self, PgConnection}, testing};
/// # async fn test<P: ItemPages<Input = i64>>(lines: P, pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// let mut transaction = pool.begin().await?;
/// let lines = testing::all_items(&lines, &mut transaction, &7).await?;
/// assert_eq!(lines.len(), 250);
/// transaction.rollback().await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the reader fails, or with a sentence that says what is wrong with its pages.
pub async fn all_items<P: ItemPages>(
    pages: &P,
    conn: &mut PgConnection,
    input: &P::Input,
) -> Result<Vec<P::Item>, StepError> {
    // A savepoint, if the caller is in a transaction.
    let mut reading = conn.begin().await?;
    sqlx::query("set transaction read only").execute(&mut *reading).await?;
    let items = in_all_sizes(pages, &mut reading, input).await;
    reading.rollback().await?;
    items
}

async fn in_all_sizes<P: ItemPages>(
    pages: &P,
    conn: &mut PgConnection,
    input: &P::Input,
) -> Result<Vec<P::Item>, StepError> {
    let count = pages.count(conn, input).await?;
    let mut first: Option<(Vec<P::Item>, Vec<String>)> = None;
    for size in SIZES {
        let (items, stored) = in_pages_of(size, pages, conn, input).await?;
        match &first {
            Some((_, known)) if *known != stored => {
                let at = known.iter().zip(&stored).take_while(|(known, item)| known == item).count();
                return wrong(format!("pages of {} and of {size} differ at item {at}", SIZES[0]));
            }
            Some(_) => {}
            None => first = Some((items, stored)),
        }
    }
    let items = first.map(|(items, _)| items).unwrap_or_default();
    match count {
        Some(count) if usize::try_from(count) != Ok(items.len()) => {
            wrong(format!("it counts {count} items, and reads {}", items.len()))
        }
        Some(_) | None => Ok(items),
    }
}

async fn in_pages_of<P: ItemPages>(
    size: u32,
    pages: &P,
    conn: &mut PgConnection,
    input: &P::Input,
) -> Result<(Vec<P::Item>, Vec<String>), StepError> {
    let (mut items, mut stored): (Vec<P::Item>, Vec<String>) = (Vec::new(), Vec::new());
    let mut places = HashMap::new();
    loop {
        let last = stored.last().map(|item| serde_json::from_str(item)).transpose();
        let last: Option<P::Item> =
            last.map_err(|error| StepError::Other(format!("an item can't be read again: {error}")))?;
        let page = pages.page(conn, input, last.as_ref(), size).await?;
        if page.is_empty() {
            return Ok((items, stored));
        }
        if usize::try_from(size).is_ok_and(|size| page.len() > size) {
            return wrong(format!("a page of at most {size} items has {}", page.len()));
        }
        for item in page {
            let item_stored =
                StoredValue::encode(&item).map_err(|error| StepError::Other(error.to_string()))?;
            let item_stored = item_stored.json().get().to_owned();
            if let Some(before) = places.insert(item_stored.clone(), stored.len()) {
                return wrong(format!("item {before} comes again as item {}", stored.len()));
            }
            stored.push(item_stored);
            items.push(item);
        }
    }
}

fn wrong<T>(why: String) -> Result<T, StepError> {
    Err(StepError::Other(why))
}
