//! The sockets of the API: one for all services, or one for each.

use std::{io, net::SocketAddr};

use api::Service;
use tokio::net::{TcpListener, TcpSocket};

use crate::{config::HttpConfig, exit_error::ExitError};

/// How many connections may wait to be accepted; the kernel may allow fewer.
const BACKLOG: u32 = 1024;

/// A port that is reserved but not listened on yet. Reserving it first reports a port that is in use at once. Listening
/// on it only later makes the kernel refuse connections until the process knows that it can serve, so that a load
/// balancer sends them to another process.
pub(crate) struct Bound {
    /// The address to listen on.
    pub(crate) address: SocketAddr,
    socket: TcpSocket,
    variable: &'static str,
    services: Vec<Service>,
}

/// An open socket and the services behind it.
pub(crate) struct Listening {
    /// The socket's address.
    pub(crate) address: SocketAddr,
    /// The socket that accepts connections.
    pub(crate) listener: TcpListener,
    /// The services that it offers.
    pub(crate) services: Vec<Service>,
}

/// Reserves the port of these services: a service alone has its own port, several share `PORT`.
///
/// # Errors
/// [`ExitError::Unusable`] when the port is taken; the message says how to choose another.
pub(crate) fn bind(http: &HttpConfig, services: &[Service]) -> Result<Bound, ExitError> {
    let (variable, port) = port(http, services);
    Bound::at(SocketAddr::new(http.host, port), variable, services.to_vec())
}

/// Opens the socket of a worker's health and metrics, if `WORK_PORT` is set.
///
/// # Errors
/// As [`bind`].
pub(crate) fn listen_for_worker(http: &HttpConfig) -> Result<Option<Listening>, ExitError> {
    let bound = |port| Bound::at(SocketAddr::new(http.host, port), "WORK_PORT", Vec::new());
    http.work_port.map(|port| bound(port)?.listen()).transpose()
}

impl Bound {
    fn at(wanted: SocketAddr, variable: &'static str, services: Vec<Service>) -> Result<Self, ExitError> {
        let reserve = || -> io::Result<_> {
            let socket = if wanted.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // Lets a new process take the port of one that has just ended.
            socket.set_reuseaddr(true)?;
            socket.bind(wanted)?;
            Ok((socket.local_addr()?, socket))
        };
        let (address, socket) = reserve().map_err(|error| refused(wanted, variable, &error))?;
        Ok(Self { address, socket, variable, services })
    }

    /// Starts accepting connections.
    ///
    /// # Errors
    /// As [`bind`]: another process may have reserved the port too, and started to listen first.
    pub(crate) fn listen(self) -> Result<Listening, ExitError> {
        let Self { address, socket, variable, services } = self;
        let listener = socket.listen(BACKLOG).map_err(|error| refused(address, variable, &error))?;
        Ok(Listening { address, listener, services })
    }
}

fn port(http: &HttpConfig, services: &[Service]) -> (&'static str, u16) {
    match services {
        [Service::Orders] => ("ORDERS_PORT", http.orders_port),
        [Service::Inventory] => ("INVENTORY_PORT", http.inventory_port),
        [Service::Notifications] => ("NOTIFICATIONS_PORT", http.notifications_port),
        _ => ("PORT", http.port),
    }
}

fn refused(address: SocketAddr, variable: &str, error: &io::Error) -> ExitError {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "another program listens there; choose another port, such as {variable}={}",
                address.port().saturating_add(100)
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("this user may not; choose a port above 1023 with {variable}")
        }
        _ => format!("{error}; HOST and {variable} choose the address"),
    };
    ExitError::Unusable(format!("can't listen on {address}: {remedy}"))
}
