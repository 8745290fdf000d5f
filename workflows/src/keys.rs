//! API keys: who may call, as what.
//!
//! A key is `sgl_<id>_<secret>`. The id is public and finds the row; of the secret, 256 random bits, only the SHA-256 is
//! stored, which is compared in constant time. Whether a key has expired is the database's clock to say.

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
