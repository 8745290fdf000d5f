//! What is to be done with a request that carries a key.

use sqlx::PgPool;
use uuid::Uuid;

use super::{read::read, response::Begin, write::claim};

/// Begins a request, in one statement, so that of many at once one is fresh.
///
/// `scope` tells apart who may use equal keys for different things: the operation, and who called. `body_hash` tells
/// whether a request is the same. `holder` is a fresh id of whoever asks: what is done with the key later is done by its
/// holder alone, and changes nothing once somebody else has taken the request over.
///
/// # Errors
/// When the database refuses or is away. Unless it was not reached at all the key may be held all the same: `abandon`
/// it.
pub async fn begin(
    pool: &PgPool,
    key: &str,
    scope: &str,
    body_hash: &[u8],
    holder: Uuid,
) -> Result<Begin, sqlx::Error> {
    // An entry that ends between the two statements is looked at once more; it can't go on for ever.
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
