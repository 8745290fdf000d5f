//! Remembers the answers to requests that carry an `Idempotency-Key`, so that the same request gets the same one.

use std::time::Duration;

use sqlx::PgPool;
use sqlx_macros::FromRow;
use uuid::Uuid;

/// How long an answer is kept.
pub const RETENTION: Duration = Duration::from_hours(24);
/// How long one round of deleting may take: on a connection that has silently died it would never end.
const PURGE_TIMEOUT: Duration = Duration::from_secs(10);
/// A request that is in flight for longer than this is taken for lost, and another may take it over.
pub const IN_FLIGHT_TIMEOUT: Duration = Duration::from_mins(1);

/// What is to be done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// It is to be carried out now.
    Fresh {
        /// The id to give to what it creates. A request that takes over a lost one gets the same, so that the two
        /// together create one.
        resource_id: Uuid,
    },
    /// It was carried out; this was the answer.
    Replay(RecordedResponse),
    /// The key was used for a request that said something else.
    Mismatch,
    /// It is being carried out at this moment.
    InFlight,
}

/// An answer to be given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedResponse {
    /// The HTTP status.
    pub status: u16,
    /// The `Location` header, if there was one.
    pub location: Option<String>,
    /// The body, as [`finish`] was given it.
    pub body: String,
}

/// Begins a request, in one statement, so that of many at once one is fresh.
///
/// `scope` tells apart who may use equal keys for different things: the operation, and who called. `body_hash` tells
/// whether a request is the same. `holder` is a fresh id of whoever asks: what is done with the key later is done by its
/// holder alone, and changes nothing once somebody else has taken the request over.
///
/// # Errors
/// When the database refuses or is away. Unless it was not reached at all the key may be held all the same: [`abandon`]
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

/// Keeps the answer to a request that [`begin`] found fresh. Doing so again changes nothing.
///
/// # Errors
/// When the database refuses or is away; until it is done the request counts as in flight, for a minute at the most.
pub async fn finish(
    pool: &PgPool,
    key: &str,
    scope: &str,
    holder: Uuid,
    answer: &RecordedResponse,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update shop.idempotency_key set status = $4, location = $5, body = $6
         where scope = $1 and key = $2 and holder = $3 and status is null",
    )
    .bind(scope)
    .bind(key)
    .bind(holder)
    .bind(i16::try_from(answer.status).unwrap_or(i16::MAX))
    .bind(&answer.location)
    .bind(&answer.body)
    .execute(pool)
    .await?;
    Ok(())
}

/// Lets a request that [`begin`] found fresh, and that got no answer to be kept, be made again at once; so too one whose
/// `begin` got no answer itself. What it creates keeps its id: the trouble may have come after the commit.
///
/// # Errors
/// As [`finish`].
pub async fn abandon(pool: &PgPool, key: &str, scope: &str, holder: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update shop.idempotency_key set begun_at = '-infinity'
         where scope = $1 and key = $2 and holder = $3 and status is null",
    )
    .bind(scope)
    .bind(key)
    .bind(holder)
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes up to `limit` answers that are no longer kept, and says how many.
///
/// # Errors
/// When the database refuses or is away.
pub async fn purge(pool: &PgPool, limit: u32) -> Result<u64, sqlx::Error> {
    let query = sqlx::query(
        "delete from shop.idempotency_key where ctid = any(array(
             select ctid from shop.idempotency_key where created_at < now() - make_interval(secs => $1) limit $2
             for update skip locked))",
    )
    .bind(RETENTION.as_secs_f64())
    .bind(i64::from(limit));
    let result =
        engine::with_timeout(pool, PURGE_TIMEOUT, async |conn| query.execute(&mut **conn).await).await?;
    Ok(result.rows_affected())
}

/// Makes an entry, or takes over one that is out of date or lost; `None` when the entry belongs to somebody else.
async fn claim(
    pool: &PgPool,
    key: &str,
    scope: &str,
    body_hash: &[u8],
    holder: Uuid,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "insert into shop.idempotency_key as k (scope, key, body_hash, resource_id, holder)
         values ($1, $2, $3, $4, $4)
         on conflict (scope, key) do update
         set body_hash = excluded.body_hash, holder = excluded.holder, begun_at = now(), status = null, location = null, body = null,
             resource_id = case when k.created_at < now() - make_interval(secs => $5)
                                then excluded.resource_id else k.resource_id end,
             created_at = case when k.created_at < now() - make_interval(secs => $5) then now() else k.created_at end
         where k.created_at < now() - make_interval(secs => $5)
            or (k.status is null and k.begun_at < now() - make_interval(secs => $6)
                and k.body_hash = excluded.body_hash)
         returning resource_id",
    )
    .bind(scope)
    .bind(key)
    .bind(body_hash)
    .bind(holder)
    .bind(RETENTION.as_secs_f64())
    .bind(IN_FLIGHT_TIMEOUT.as_secs_f64())
    .fetch_optional(pool)
    .await
}

#[derive(FromRow)]
struct Entry {
    body_hash: Vec<u8>,
    status: Option<i16>,
    location: Option<String>,
    body: Option<String>,
}

impl Entry {
    fn begin(self, body_hash: &[u8]) -> Result<Begin, sqlx::Error> {
        if self.body_hash != body_hash {
            return Ok(Begin::Mismatch);
        }
        match (self.status, self.body) {
            (Some(status), Some(body)) => {
                let status = u16::try_from(status).map_err(|error| sqlx::Error::Decode(error.into()))?;
                Ok(Begin::Replay(RecordedResponse { status, location: self.location, body }))
            }
            (Some(_) | None, _) => Ok(Begin::InFlight),
        }
    }
}

async fn read(pool: &PgPool, key: &str, scope: &str) -> Result<Option<Entry>, sqlx::Error> {
    sqlx::query_as(
        "select body_hash, status, location, body from shop.idempotency_key where scope = $1 and key = $2",
    )
    .bind(scope)
    .bind(key)
    .fetch_optional(pool)
    .await
}
