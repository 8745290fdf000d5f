//! What counts as one caller's address.

use std::net::{IpAddr, Ipv6Addr};

/// The address, or for IPv6 its network of 64 bits, because one customer has all addresses of it.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_64_bits_is_one_customer() {
        let of = |text: &str| network(text.parse().expect("an address")).to_string();
        assert_eq!(of("2001:db8:0:1::1"), "2001:db8:0:1::");
        assert_eq!(of("2001:db8:0:1:ffff::1"), "2001:db8:0:1::");
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
