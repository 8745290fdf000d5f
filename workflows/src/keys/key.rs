//! API keys, and the data for creating one.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx_macros::FromRow;

use super::role::KeyRole;
use crate::support::{validator::Validator, violation::Violation};

/// The longest name of a key.
pub const MAX_NAME_LEN: usize = 64;

/// The longest lifetime of a key that expires.
pub const MAX_LIFETIME: Duration = Duration::from_hours(24 * 365 * 10);

/// The data of a key to create.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The holder's name: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// The role of the key.
    pub role: KeyRole,
    /// The lifetime; `None` for a key that never expires.
    pub life: Option<Duration>,
}

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Key {
    /// The public part of the key.
    pub key_id: String,
    /// The holder's name.
    pub name: String,
    /// The role of the key.
    pub role: KeyRole,
    /// When the key was created.
    pub created_at: DateTime<Utc>,
    /// When the key expires, if it does.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the key was revoked, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, to about a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Whether the key was neither expired nor revoked when it was read.
    pub is_usable: bool,
}

/// A key that is neither expired nor revoked.
#[derive(Clone, Debug)]
pub struct UsableKey {
    /// The public part of the key.
    pub key_id: String,
    /// The holder's name.
    pub name: String,
    /// The role of the key.
    pub role: KeyRole,
    /// The SHA-256 of the secret, for `Token::fits`.
    pub secret_hash: Vec<u8>,
    /// The time until the key expires, as of when it was read; `None` if it never does.
    pub expires_in: Option<Duration>,
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
    /// The audit log's JSON of a key.
    pub(crate) fn audit_json(&self) -> serde_json::Value {
        json!({
            "name": self.name, "role": self.role.name(), "expires_at": self.expires_at, "revoked_at": self.revoked_at,
        })
    }
}
