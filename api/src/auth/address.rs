//! The address of a caller: the peer of the connection, or the client that a trusted proxy names.

use std::{fmt, net::IpAddr, str::FromStr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The peer of the connection on which a request arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Proxies whose `X-Forwarded-For` is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// A list of proxies can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address or network such as 10.0.0.0/8")]
pub struct ProxiesError(String);

impl TrustedProxies {
    /// Whether no proxy is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address of the caller. Each proxy appends to the header the address that called it, so the rightmost address
    /// that is no trusted proxy is the last that a trusted one has seen. Anyone could have written the addresses to its
    /// left.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut seen = peer.to_canonical();
        if !self.trusts(seen) {
            return seen;
        }
        let lines = headers.get_all(&X_FORWARDED_FOR).iter().rev();
        for hop in lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',')) {
            let Some(address) = address(hop.trim()) else {
                // No address: the proxy that passed it on is the last hop that is known.
                return seen;
            };
            seen = address;
            if !self.trusts(seen) {
                return seen;
            }
        }
        seen
    }

    /// Whether this address is a trusted proxy.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address as proxies write it: bare, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().map(|with: std::net::SocketAddr| with.ip()).ok());
    address.map(|address: IpAddr| address.to_canonical())
}

impl FromStr for TrustedProxies {
    type Err = ProxiesError;

    /// Reads a comma-separated list of addresses and networks.
    fn from_str(text: &str) -> Result<Self, ProxiesError> {
        let network = |part: &str| {
            let alone = || part.parse::<IpAddr>().map(IpNet::from);
            part.parse().or_else(|_| alone()).map_err(|_| ProxiesError(part.to_owned()))
        };
        text.split(',').map(|part| network(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let proxies: TrustedProxies = "10.0.0.0/8, ::1, 192.168.1.7".parse().expect("networks");
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(&X_FORWARDED_FOR, line.parse().expect("a value"));
        }
        proxies.client(peer.parse().expect("an address"), &headers).to_string()
    }

    #[test]
    fn only_trusted_proxies_name_the_caller() {
        assert_eq!(client("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(client("192.168.1.8", &["198.51.100.1"]), "192.168.1.8");
    }

    #[test]
    fn the_rightmost_address_that_is_no_trusted_proxy_is_the_caller() {
        assert_eq!(client("10.1.1.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("10.1.1.1", &["6.6.6.6, 198.51.100.1, 10.2.2.2"]), "198.51.100.1");
        assert_eq!(client("10.1.1.1", &["6.6.6.6", "198.51.100.1", "192.168.1.7"]), "198.51.100.1");
        assert_eq!(client("::1", &["[2001:db8::5]:4711"]), "2001:db8::5");
        assert_eq!(client("::ffff:10.1.1.1", &["198.51.100.1:4711"]), "198.51.100.1");
    }

    #[test]
    fn a_malformed_hop_ends_the_chain_of_trust() {
        assert_eq!(client("10.1.1.1", &[]), "10.1.1.1");
        assert_eq!(client("10.1.1.1", &["10.2.2.2"]), "10.2.2.2");
        assert_eq!(client("10.1.1.1", &["198.51.100.1, unknown, 10.2.2.2"]), "10.2.2.2");
        assert_eq!(client("10.1.1.1", &["198.51.100.1,"]), "10.1.1.1");
    }

    #[test]
    fn malformed_networks_are_refused() {
        for wrong in ["", "10.0.0.0/33", "example.com", "10.0.0.0/8,", "10.0.0.0/8;::1"] {
            wrong.parse::<TrustedProxies>().expect_err(wrong);
        }
    }
}
