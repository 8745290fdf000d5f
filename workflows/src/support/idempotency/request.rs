//! Begins a request with a key.

use sqlx::PgPool;
use uuid::Uuid;

use super::{read::read, response::Begin, write::claim};

/// Begins a request in one statement, so that only one of several at once is carried out.
///
/// `scope` separates equal keys of different callers and operations. `body_hash` tells whether a repeated request is
/// the same. `holder` is an id that the caller made for this request: later writes to the entry need it, and change
/// nothing once another request has taken the entry over.
///
/// # Errors
/// When the database refuses or can't be reached. The key may be held even then, so the caller has to call `abandon`.
pub async fn begin(
    pool: &PgPool,
    key: &str,
    scope: &str,
    body_hash: &[u8],
    holder: Uuid,
) -> Result<Begin, sqlx::Error> {
    // An entry can expire between the two statements; then it is tried again, a limited number of times.
    for _ in 0..3 {
        if let Some(resource_id) = claim(pool, key, scope, body_hash, holder).await? {
            return Ok(Begin::Fresh { resource_id });
        }
        if let Some(entry) = read(pool, key, scope).await? {
            return entry.begin(body_hash);
        }
    }
    Ok(Begin::InFlight)
}
