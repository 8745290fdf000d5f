//! The caller of a request, once it is authenticated.

use std::{net::IpAddr, sync::Arc};

use shop::keys::UsableKey;

/// The caller of a request; `authorize` attaches it to every request that it lets through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// The API key, where one was needed.
    pub(crate) key: Option<Arc<UsableKey>>,
    /// The address that called.
    pub(crate) address: Option<IpAddr>,
}
