//! Who may do what, and how often: every route declares the role that it needs, keys have roles, and keys and addresses
//! are counted.

mod address;
mod caller;
mod held_key;
mod keyring;
mod limiter;
mod need;
mod rate;
mod settings;
mod table;

pub use address::{ProxiesError, TrustedProxies};
pub use limiter::{SharedLimiter, Taken};
pub use rate::Rate;
pub use settings::{Access, Auth, CorsOrigins};

pub(crate) use address::Peer;
pub(crate) use caller::Caller;
pub(crate) use held_key::HeldKey;
pub(crate) use keyring::Keyring;
pub(crate) use limiter::{Bucket, Limiter, Standing};
pub(crate) use need::Need;
pub(crate) use table::{Needs, RouteTable, is_limited};
