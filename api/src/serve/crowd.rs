//! Counts connections by address, so that nobody takes all places. Trusted proxies bring those of many, and have no bound
//! of their own.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::access::TrustedProxies;

/// The connections that are open, by address; there are as many addresses as connections at the most.
#[derive(Clone, Debug)]
pub(super) struct Crowd {
    seats: usize,
    proxies: TrustedProxies,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Crowd,
    /// `None` when it is not counted.
    address: Option<IpAddr>,
}

impl Crowd {
    /// So many connections for each address that is none of these proxies.
    pub(super) fn new(seats: usize, proxies: TrustedProxies) -> Self {
        Self { seats, proxies, taken: Arc::default() }
    }

    /// Takes a place; `None` when the address has all of its own.
    pub(super) fn seat(&self, address: IpAddr) -> Option<Seat> {
        let address = address.to_canonical();
        if self.proxies.trust(address) {
            return Some(Seat { crowd: self.clone(), address: None });
        }
        let mut taken = self.lock();
        let count = taken.entry(address).or_default();
        if *count >= self.seats {
            return None;
        }
        *count += 1;
        Some(Seat { crowd: self.clone(), address: Some(address) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut taken = self.crowd.lock();
        if let Some(count) = taken.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_own_places_and_gets_them_back() {
        let crowd = Crowd::new(2, TrustedProxies::default());
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let first = crowd.seat(one);
        let second = crowd.seat(one);
        assert!(first.is_some() && second.is_some() && crowd.seat(one).is_none());
        assert!(crowd.seat(other).is_some());
        drop(first);
        assert!(crowd.seat(one).is_some());
        drop(second);
        assert!(crowd.lock().is_empty(), "addresses without connections are forgotten");
    }

    #[test]
    fn a_trusted_proxy_brings_as_many_as_it_likes_and_others_do_not() {
        let crowd = Crowd::new(1, "10.0.0.0/8".parse().expect("a network"));
        let proxy: IpAddr = "::ffff:10.1.1.1".parse().expect("an address");
        let seats: Vec<_> = (0..10).map(|_| crowd.seat(proxy)).collect();
        assert!(seats.iter().all(Option::is_some));
        let stranger = IpAddr::from([192, 0, 2, 1]);
        let seat = crowd.seat(stranger);
        assert!(seat.is_some() && crowd.seat(stranger).is_none());
    }
}
