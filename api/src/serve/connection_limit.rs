//! Limits connections by address, so that one caller can't take them all. Trusted proxies bring the connections of many
//! callers and are not limited.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

use crate::auth::TrustedProxies;

/// The number of open connections of each address that has any.
#[derive(Clone, Debug)]
pub(super) struct ConnectionLimit {
    max: usize,
    proxies: TrustedProxies,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// The permit of one connection; dropping it frees it.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    limit: ConnectionLimit,
    /// `None` when the connection is not counted.
    address: Option<IpAddr>,
}

impl ConnectionLimit {
    /// Allows `max` connections for each address that is none of these proxies.
    pub(super) fn new(max: usize, proxies: TrustedProxies) -> Self {
        Self { max, proxies, open: Arc::default() }
    }

    /// Takes a permit; `None` when the address has all of its own.
    pub(super) fn try_acquire(&self, address: IpAddr) -> Option<ConnectionPermit> {
        let address = address.to_canonical();
        if self.proxies.trusts(address) {
            return Some(ConnectionPermit { limit: self.clone(), address: None });
        }
        let mut open = self.open.lock();
        let count = open.entry(address).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(ConnectionPermit { limit: self.clone(), address: Some(address) })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut open = self.limit.open.lock();
        if let Some(count) = open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_permits_and_gets_them_back() {
        let limit = ConnectionLimit::new(2, TrustedProxies::default());
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let first = limit.try_acquire(one);
        let second = limit.try_acquire(one);
        assert!(first.is_some() && second.is_some() && limit.try_acquire(one).is_none());
        assert!(limit.try_acquire(other).is_some());
        drop(first);
        assert!(limit.try_acquire(one).is_some());
        drop(second);
        assert!(limit.open.lock().is_empty(), "addresses without connections are forgotten");
    }

    #[test]
    fn trusted_proxies_are_not_limited() {
        let limit = ConnectionLimit::new(1, "10.0.0.0/8".parse().expect("a network"));
        let proxy: IpAddr = "::ffff:10.1.1.1".parse().expect("an address");
        let permits: Vec<_> = (0..10).map(|_| limit.try_acquire(proxy)).collect();
        assert!(permits.iter().all(Option::is_some));
        let stranger = IpAddr::from([192, 0, 2, 1]);
        let permit = limit.try_acquire(stranger);
        assert!(permit.is_some() && limit.try_acquire(stranger).is_none());
    }
}
