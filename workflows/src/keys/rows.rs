//! Keys in the database.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use sqlx_macros::FromRow;

use super::{KeyRole, NewKey, Token};

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Key {
    /// Its public part.
    pub key_id: String,
    /// Who holds it.
    pub name: String,
    /// What it may do.
    pub role: KeyRole,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends by itself, if it does.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, to about a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Whether it could be used when it was read.
    pub is_usable: bool,
}

/// A key that may be used now.
#[derive(Clone, Debug)]
pub struct UsableKey {
    /// Its public part.
    pub key_id: String,
    /// Who holds it.
    pub name: String,
    /// What it may do.
    pub role: KeyRole,
    /// The SHA-256 of its secret, for [`Token::fits`].
    pub secret_hash: Vec<u8>,
    /// How long it may still be used; without an end when it has none.
    pub left: Option<Duration>,
}

/// Reads a key that is neither revoked nor expired.
///
/// # Errors
/// When the database refuses or is away.
pub async fn find(pool: &PgPool, key_id: &str) -> Result<Option<UsableKey>, sqlx::Error> {
    let row: Option<UsableRow> = sqlx::query_as(
        "select key_id, name, role, secret_hash, extract(epoch from expires_at - now())::float8 as left_s
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
        left: row.left_s.map(|left_s| Duration::try_from_secs_f64(left_s).unwrap_or_default()),
    }))
}

#[derive(FromRow)]
struct UsableRow {
    key_id: String,
    name: String,
    role: KeyRole,
    secret_hash: Vec<u8>,
    left_s: Option<f64>,
}

/// Lists all keys, the newest first. There are few: people make them.
///
/// # Errors
/// When the database refuses or is away.
pub async fn list(pool: &PgPool) -> Result<Vec<Key>, sqlx::Error> {
    sqlx::query_as(
        "select key_id, name, role, created_at, expires_at, revoked_at, last_used_at,
                revoked_at is null and (expires_at is null or expires_at > now()) as is_usable
         from shop.api_key order by created_at desc, key_id",
    )
    .fetch_all(pool)
    .await
}

/// Whether any key can be used.
///
/// # Errors
/// When the database refuses or is away.
pub async fn is_any_usable(pool: &PgPool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from shop.api_key
         where revoked_at is null and (expires_at is null or expires_at > now()))",
    )
    .fetch_one(pool)
    .await
}

/// Notes that a key was used, unless that was noted within the last minute.
///
/// # Errors
/// When the database refuses or is away.
pub async fn note_use(pool: &PgPool, key_id: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update shop.api_key set last_used_at = now()
         where key_id = $1 and (last_used_at is null or last_used_at < now() - interval '1 minute')",
    )
    .bind(key_id)
    .execute(pool)
    .await
    .map(drop)
}

pub(super) async fn insert(conn: &mut PgConnection, new: &NewKey, token: &Token) -> Result<Key, sqlx::Error> {
    sqlx::query_as(
        "insert into shop.api_key (key_id, name, role, secret_hash, expires_at)
         values ($1, $2, $3, $4, now() + $5 * interval '1 second')
         returning key_id, name, role, created_at, expires_at, revoked_at, last_used_at, true as is_usable",
    )
    .bind(token.key_id())
    .bind(&new.name)
    .bind(new.role.name())
    .bind(token.hash().as_slice())
    .bind(new.life.map(|life| life.as_secs_f64()))
    .fetch_one(conn)
    .await
}

pub(super) async fn lock(conn: &mut PgConnection, key_id: &str) -> Result<Option<Key>, sqlx::Error> {
    sqlx::query_as(
        "select key_id, name, role, created_at, expires_at, revoked_at, last_used_at,
                revoked_at is null and (expires_at is null or expires_at > now()) as is_usable
         from shop.api_key where key_id = $1 for no key update",
    )
    .bind(key_id)
    .fetch_optional(conn)
    .await
}

pub(super) async fn revoke(conn: &mut PgConnection, key_id: &str) -> Result<Option<Key>, sqlx::Error> {
    sqlx::query_as(
        "update shop.api_key set revoked_at = now() where key_id = $1
         returning key_id, name, role, created_at, expires_at, revoked_at, last_used_at, false as is_usable",
    )
    .bind(key_id)
    .fetch_optional(conn)
    .await
}
