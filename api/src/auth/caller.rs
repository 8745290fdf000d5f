//! Who called, once it is known.

use std::{net::IpAddr, sync::Arc};

use shop::keys::UsableKey;

/// Who called; the guard attaches it to every request that it lets through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// The key that was shown, where one was asked for.
    pub(crate) key: Option<Arc<UsableKey>>,
    /// Where the call came from.
    pub(crate) address: Option<IpAddr>,
}
