//! Stores, locks and revokes API keys.

use sqlx::{PgConnection, PgPool};

use super::{
    key::{Key, NewKey},
    token::Token,
};

/// Records the time of a key's last use, unless one within the last minute is recorded.
///
/// # Errors
/// When the database refuses or can't be reached.
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

pub(crate) async fn insert(conn: &mut PgConnection, new: &NewKey, token: &Token) -> Result<Key, sqlx::Error> {
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

pub(crate) async fn lock(conn: &mut PgConnection, key_id: &str) -> Result<Option<Key>, sqlx::Error> {
    sqlx::query_as(
        "select key_id, name, role, created_at, expires_at, revoked_at, last_used_at,
                revoked_at is null and (expires_at is null or expires_at > now()) as is_usable
         from shop.api_key where key_id = $1 for no key update",
    )
    .bind(key_id)
    .fetch_optional(conn)
    .await
}

pub(crate) async fn revoke(conn: &mut PgConnection, key_id: &str) -> Result<Option<Key>, sqlx::Error> {
    sqlx::query_as(
        "update shop.api_key set revoked_at = now() where key_id = $1
         returning key_id, name, role, created_at, expires_at, revoked_at, last_used_at, false as is_usable",
    )
    .bind(key_id)
    .fetch_optional(conn)
    .await
}
