//! Makes and revokes API keys, with the record of who did.

use sqlx::PgPool;

use crate::{
    keys::{self, Key, NewKey, Token},
    support::{
        audit::{self, AuditActor, AuditEntry},
        violation::Violation,
    },
};

/// A key was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The request is wrong.
    #[error("{}", .0.iter().map(|wrong| format!("{} {}", wrong.pointer.trim_start_matches('/'), wrong.message)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Violation>),
    /// There is no such key.
    #[error("there is no key {0}")]
    NotFound(String),
    /// The database refused or is away.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Makes a key, and gives it with its token. The token is nowhere else: show it once, then forget it.
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

/// Ends a key for good; one that is revoked already stays as it is. Processes that have just seen the key may let it
/// pass for five seconds more, and ask for it again every fifteen while somebody follows events with it.
///
/// # Errors
/// [`KeyError::NotFound`], and when the database refuses or is away.
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
