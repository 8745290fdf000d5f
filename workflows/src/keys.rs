//! API keys: who may call, and with which role.
//!
//! A key is `sgl_<id>_<secret>`. The id is public and finds the row. The secret has 256 random bits; only its SHA-256
//! is stored, and it is compared in constant time. The database's clock decides whether a key has expired.

mod key;
mod read;
mod role;
mod token;
mod write;

pub use key::{Key, MAX_LIFETIME, MAX_NAME_LEN, NewKey, UsableKey};
pub use read::{find, is_any_usable, list};
pub use role::KeyRole;
pub use token::Token;
pub use write::note_use;
pub(crate) use write::{insert, lock, revoke};
