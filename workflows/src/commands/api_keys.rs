//! Creates and revokes API keys, with an audit record.

use sqlx::PgPool;

use crate::{
    keys::{self, Key, NewKey, Token},
    support::{
        audit::{self, AuditActor, AuditEntry},
        violation::Violation,
    },
};

/// An API key was not created or revoked.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The request is invalid.
    #[error("{}", .0.iter().map(|wrong| format!("{} {}", wrong.pointer.trim_start_matches('/'), wrong.message)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Violation>),
    /// No key has this id.
    #[error("there is no key {0}")]
    NotFound(String),
    /// The database refused or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Creates a key and returns it with its token. Only the token's hash is stored, so the caller has to show the token
/// now.
///
/// # Errors
/// See [`KeyError`].
pub async fn create_key(
    pool: &PgPool,
    new: &NewKey,
    reason: Option<&str>,
    by: &AuditActor<'_>,
) -> Result<(Key, Token), KeyError> {
    let violations = new.violations();
    if !violations.is_empty() {
        return Err(KeyError::Invalid(violations));
    }
    let token = Token::generate();
    let mut tx = pool.begin().await?;
    let key = keys::insert(&mut tx, new, &token).await?;
    let made = AuditEntry::new("key.create", "key", &key.key_id).reason(reason).after(key.audit_json());
    audit::record(&mut tx, by, &[made]).await?;
    tx.commit().await?;
    Ok((key, token))
}

/// Revokes a key; a revoked key stays as it is. Processes that have the key in their cache accept it for up to five
/// seconds more. Open event streams check their key every fifteen seconds.
///
/// # Errors
/// [`KeyError::NotFound`], and when the database refuses or can't be reached.
pub async fn revoke_key(
    pool: &PgPool,
    key_id: &str,
    reason: Option<&str>,
    by: &AuditActor<'_>,
) -> Result<Key, KeyError> {
    let mut tx = pool.begin().await?;
    let not_found = || KeyError::NotFound(key_id.to_owned());
    let before = keys::lock(&mut tx, key_id).await?.ok_or_else(not_found)?;
    if before.revoked_at.is_some() {
        return Ok(before);
    }
    let after = keys::revoke(&mut tx, key_id).await?.ok_or_else(not_found)?;
    let change = AuditEntry::new("key.revoke", "key", key_id).reason(reason);
    audit::record(&mut tx, by, &[change.before(before.audit_json()).after(after.audit_json())]).await?;
    tx.commit().await?;
    Ok(after)
}
