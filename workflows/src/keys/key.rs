//! An API key, and what one is made of.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx_macros::FromRow;

use super::role::KeyRole;
use crate::support::{validator::Validator, violation::Violation};

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
    /// The SHA-256 of its secret, for `Token::fits`.
    pub secret_hash: Vec<u8>,
    /// How long it may still be used; without an end when it has none.
    pub left: Option<Duration>,
}

impl NewKey {
    pub(crate) fn violations(&self) -> Vec<Violation> {
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
    pub(crate) fn audit_json(&self) -> serde_json::Value {
        json!({
            "name": self.name, "role": self.role.name(), "expires_at": self.expires_at, "revoked_at": self.revoked_at,
        })
    }
}
