//! Reads API keys.

use std::time::Duration;

use sqlx::PgPool;
use sqlx_macros::FromRow;

use super::{
    key::{Key, UsableKey},
    role::KeyRole,
};

/// Reads a key that is neither revoked nor expired.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn find(pool: &PgPool, key_id: &str) -> Result<Option<UsableKey>, sqlx::Error> {
    let row: Option<UsableRow> = sqlx::query_as(
        "select key_id, name, role, secret_hash, extract(epoch from expires_at - now())::float8 as expires_in_s
         from shop.api_key
         where key_id = $1 and revoked_at is null and (expires_at is null or expires_at > now())",
    )
    .bind(key_id)
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| UsableKey {
        key_id: row.key_id,
        name: row.name,
        role: row.role,
        secret_hash: row.secret_hash,
        expires_in: row.expires_in_s.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
    }))
}

#[derive(FromRow)]
struct UsableRow {
    key_id: String,
    name: String,
    role: KeyRole,
    secret_hash: Vec<u8>,
    expires_in_s: Option<f64>,
}

/// Lists all keys, newest first. It has no pages: people create keys by hand, so there are few.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn list(pool: &PgPool) -> Result<Vec<Key>, sqlx::Error> {
    sqlx::query_as(
        "select key_id, name, role, created_at, expires_at, revoked_at, last_used_at,
                revoked_at is null and (expires_at is null or expires_at > now()) as is_usable
         from shop.api_key order by created_at desc, key_id",
    )
    .fetch_all(pool)
    .await
}

/// Whether there is a key that is neither expired nor revoked.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn is_any_usable(pool: &PgPool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from shop.api_key
         where revoked_at is null and (expires_at is null or expires_at > now()))",
    )
    .fetch_one(pool)
    .await
}
