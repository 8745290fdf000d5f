//! API keys: who may call, as what.
//!
//! A key is `sgl_<id>_<secret>`. The id is public and finds the row; of the secret, 256 random bits, only the SHA-256 is
//! stored, which is compared in constant time. Whether a key has expired is the database's clock to say.

mod role;
mod rows;
mod token;

use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;

use crate::{
    audit::{self, AuditActor, AuditEntry},
    violation::{Validator, Violation},
};

pub use role::KeyRole;
pub use rows::{Key, UsableKey, find, is_any_usable, list, note_use};
pub use token::Token;

/// The longest name of a key.
pub const MAX_NAME_LEN: usize = 64;
/// The longest life that a key can be given; one without an end has none.
pub const MAX_LIFETIME: Duration = Duration::from_hours(24 * 365 * 10);

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Who is to hold it: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// What it may do.
    pub role: KeyRole,
    /// How long it lives; for ever when it has no end.
    pub life: Option<Duration>,
}

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
pub async fn create(
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
    let key = rows::insert(&mut tx, new, &token).await?;
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
pub async fn revoke(
    pool: &PgPool,
    key_id: &str,
    reason: Option<&str>,
    by: &AuditActor<'_>,
) -> Result<Key, KeyError> {
    let mut tx = pool.begin().await?;
    let not_found = || KeyError::NotFound(key_id.to_owned());
    let before = rows::lock(&mut tx, key_id).await?.ok_or_else(not_found)?;
    if before.revoked_at.is_some() {
        return Ok(before);
    }
    let after = rows::revoke(&mut tx, key_id).await?.ok_or_else(not_found)?;
    let change = AuditEntry::new("key.revoke", "key", key_id).reason(reason);
    audit::record(&mut tx, by, &[change.before(before.audit_json()).after(after.audit_json())]).await?;
    tx.commit().await?;
    Ok(after)
}

impl NewKey {
    fn violations(&self) -> Vec<Violation> {
        let mut validator = Validator::default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let starts_well = self.name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !starts_well || self.name.len() > MAX_NAME_LEN || !self.name.chars().all(is_plain) {
            let message = format!(
                "must be 1 to {MAX_NAME_LEN} letters, digits, `.`, `_` or `-`, a letter or digit first"
            );
            validator.add("/name", "invalid", message);
        }
        if self.life.is_some_and(|life| life < Duration::from_secs(1) || life > MAX_LIFETIME) {
            validator.add("/expires", "out-of-range", "must be one second to ten years");
        }
        validator.done()
    }
}

impl Key {
    /// As the audit shows it.
    fn audit_json(&self) -> serde_json::Value {
        json!({
            "name": self.name, "role": self.role.name(), "expires_at": self.expires_at, "revoked_at": self.revoked_at,
        })
    }
}
