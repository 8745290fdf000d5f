//! Counts connections by address, so that nobody takes all places.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The connections that are open, by address; there are as many addresses as connections at the most.
#[derive(Clone, Debug)]
pub(super) struct Crowd {
    seats: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    /// So many connections for each address.
    pub(super) fn new(seats: usize) -> Self {
        Self { seats, taken: Arc::default() }
    }

    /// Takes a place; `None` when the address has all of its own.
    pub(super) fn seat(&self, address: IpAddr) -> Option<Seat> {
        let address = address.to_canonical();
        let mut taken = self.lock();
        let count = taken.entry(address).or_default();
        if *count >= self.seats {
            return None;
        }
        *count += 1;
        Some(Seat { crowd: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.crowd.lock();
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_own_places_and_gets_them_back() {
        let crowd = Crowd::new(2);
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
}
