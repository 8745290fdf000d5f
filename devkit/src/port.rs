//! Finds free ports for servers that have to restart on the same port.

use std::net::{Ipv4Addr, TcpListener};

/// Below the ports that systems give to outgoing connections (from 32768 on Linux, 49152 elsewhere): a client that keeps
/// trying to reach a port in that range while no server listens there can connect to itself.
const PORTS: std::ops::Range<u16> = 15_000..30_000;

/// A port of 127.0.0.1 that no process has at the moment; another process can take it before its user does.
pub(crate) fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let random = || rand::random_range(PORTS);
    std::iter::repeat_with(random).take(100).find(is_free).unwrap_or(PORTS.start)
}
