//! Reads stored responses.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use sqlx_macros::FromRow;

use super::response::{Begin, RETENTION, RecordedResponse};

#[derive(FromRow)]
pub(super) struct Entry {
    body_hash: Vec<u8>,
    status: Option<i16>,
    location: Option<String>,
    body: Option<String>,
}

impl Entry {
    pub(super) fn begin(self, body_hash: &[u8]) -> Result<Begin, sqlx::Error> {
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

pub(super) async fn read(pool: &PgPool, key: &str, scope: &str) -> Result<Option<Entry>, sqlx::Error> {
    sqlx::query_as(
        "select body_hash, status, location, body from shop.idempotency_key where scope = $1 and key = $2",
    )
    .bind(scope)
    .bind(key)
    .fetch_optional(pool)
    .await
}

/// For how long the oldest response has been expired; zero if none is.
pub(in crate::support) async fn expired_for(conn: &mut PgConnection) -> Result<Duration, sqlx::Error> {
    let seconds: f64 = sqlx::query_scalar(
        "select coalesce(extract(epoch from now() - min(created_at)), 0)::float8 from shop.idempotency_key",
    )
    .fetch_one(conn)
    .await?;
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default().saturating_sub(RETENTION))
}
