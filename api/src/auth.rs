//! Authentication, authorization and rate limits: every route declares the role that it needs, API keys have roles, and
//! calls are counted by key and by address.

mod address;
mod caller;
mod key_cache;
mod limiter;
mod network;
mod rate;
mod required_role;
mod settings;
mod stream_key;

pub use address::{ProxiesError, TrustedProxies};
pub use limiter::{RateDecision, SharedLimiter};
pub use rate::Rate;
pub use settings::{Access, Auth, CorsOrigins};

pub(crate) use address::Peer;
pub(crate) use caller::Caller;
pub(crate) use key_cache::KeyCache;
pub(crate) use limiter::{Bucket, Limiter, RateStatus};
pub(crate) use network::network;
pub(crate) use required_role::{RequiredRole, RouteRoles, is_limited};
pub(crate) use stream_key::StreamKey;
