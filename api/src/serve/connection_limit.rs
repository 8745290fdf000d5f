//! Limits connections by address, so that no few callers can take them all. Trusted proxies bring the connections of many
//! callers and are not limited.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

use crate::auth::{TrustedProxies, network};

/// How many connections each address may have.
///
/// An address may have at most as many as are free, so that those who come later always find some: the more callers take
/// all they can, the less each of them gets.
#[derive(Clone, Debug)]
pub(super) struct ConnectionLimit {
    /// The most of one address.
    max: usize,
    /// The most of all.
    total: usize,
    proxies: TrustedProxies,
    open: Arc<Mutex<Open>>,
}

/// The open connections.
#[derive(Debug, Default)]
struct Open {
    all: usize,
    /// Of each address that has any.
    of: HashMap<IpAddr, usize>,
}

/// The permit of one connection; dropping it frees it.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    limit: ConnectionLimit,
    /// `None` for a trusted proxy.
    address: Option<IpAddr>,
}

impl ConnectionLimit {
    /// Allows `max` of `total` connections for each address that is none of these proxies.
    pub(super) fn new(max: usize, total: usize, proxies: TrustedProxies) -> Self {
        Self { max, total, proxies, open: Arc::default() }
    }

    /// Takes a permit; `None` when the address has all that it may have.
    pub(super) fn try_acquire(&self, address: IpAddr) -> Option<ConnectionPermit> {
        let mut open = self.open.lock();
        let address = (!self.proxies.trusts(address.to_canonical())).then(|| network(address));
        if let Some(address) = address {
            let free = self.total.saturating_sub(open.all);
            let count = open.of.get(&address).copied().unwrap_or_default();
            // The first one of an address is never refused here: its connection was accepted, so there was one left.
            if count >= self.max.min(free.max(1)) {
                return None;
            }
            open.of.insert(address, count + 1);
        }
        open.all += 1;
        Some(ConnectionPermit { limit: self.clone(), address })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.limit.open.lock();
        open.all -= 1;
        let Some(address) = self.address else { return };
        if let Some(count) = open.of.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.of.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// As many permits as an address gets.
    fn take_all(limit: &ConnectionLimit, of: IpAddr) -> Vec<ConnectionPermit> {
        std::iter::from_fn(|| limit.try_acquire(of)).collect()
    }

    #[test]
    fn each_address_has_its_own_permits_and_gets_them_back() {
        let limit = ConnectionLimit::new(2, 100, TrustedProxies::default());
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut first = take_all(&limit, one);
        assert_eq!(first.len(), 2);
        assert!(limit.try_acquire(other).is_some());
        first.pop();
        assert_eq!(take_all(&limit, one).len(), 1);
        drop(first);
        let open = limit.open.lock();
        assert!(open.of.is_empty() && open.all == 0, "addresses without connections are forgotten");
    }

    #[test]
    fn the_addresses_of_an_ipv6_network_share_their_permits() {
        let limit = ConnectionLimit::new(2, 100, TrustedProxies::default());
        let _permits = [address("2001:db8::1"), address("2001:db8::2")].map(|one| limit.try_acquire(one));
        assert!(limit.try_acquire(address("2001:db8::3")).is_none());
        assert!(limit.try_acquire(address("2001:db8:0:1::3")).is_some());
    }

    #[test]
    fn nine_networks_that_take_all_they_can_leave_a_share_for_newcomers() {
        let limit = ConnectionLimit::new(1024, 8192, TrustedProxies::default());
        let mut taken: Vec<_> =
            (1..=9).map(|network| take_all(&limit, address(&format!("2001:db8:0:{network}::1")))).collect();
        let all: usize = taken.iter().map(Vec::len).sum();
        assert!(all < 8192 && taken[0].len() == 1024, "{all}");
        for newcomer in 1..=50 {
            let permits = take_all(&limit, address(&format!("192.0.2.{newcomer}")));
            assert!(permits.len() > 50, "the {newcomer}th newcomer gets {}", permits.len());
            taken.push(permits.into_iter().take(2).collect());
        }
    }

    #[test]
    fn trusted_proxies_are_not_limited() {
        let limit = ConnectionLimit::new(1, 10, "10.0.0.0/8".parse().expect("a network"));
        let proxy = address("::ffff:10.1.1.1");
        let permits: Vec<_> = (0..10).map(|_| limit.try_acquire(proxy)).collect();
        assert!(permits.iter().all(Option::is_some));
        let stranger = address("192.0.2.1");
        let permit = limit.try_acquire(stranger);
        assert!(permit.is_some() && limit.try_acquire(stranger).is_none());
    }
}
