//! The sockets of the API: one for all roles, or one for each.

use std::{io, net::SocketAddr};

use api::Role;
use tokio::net::TcpListener;

use crate::{config::HttpConfig, failure::Failure};

/// An open socket and the roles behind it.
pub(crate) struct Listening {
    /// Where.
    pub(crate) address: SocketAddr,
    /// The socket.
    pub(crate) listener: TcpListener,
    /// What it offers.
    pub(crate) roles: Vec<Role>,
}

/// Opens the socket for these roles: a role alone has a port of its own, several share `PORT`.
///
/// # Errors
/// [`Failure::Unusable`] when the port is taken; the message says how to choose another.
pub(crate) async fn listen(http: &HttpConfig, roles: &[Role]) -> Result<Listening, Failure> {
    let (variable, port) = port(http, roles);
    bind(SocketAddr::new(http.host, port), variable, roles.to_vec()).await
}

/// Opens the socket of a worker's health and metrics, if it is to have one.
///
/// # Errors
/// As [`listen`].
pub(crate) async fn listen_for_worker(http: &HttpConfig) -> Result<Option<Listening>, Failure> {
    match http.work_port {
        Some(port) => bind(SocketAddr::new(http.host, port), "WORK_PORT", Vec::new()).await.map(Some),
        None => Ok(None),
    }
}

async fn bind(wanted: SocketAddr, variable: &str, roles: Vec<Role>) -> Result<Listening, Failure> {
    let listener = TcpListener::bind(wanted).await.map_err(|error| refused(wanted, variable, &error))?;
    let address = listener.local_addr().map_err(|error| refused(wanted, variable, &error))?;
    Ok(Listening { address, listener, roles })
}

fn port(http: &HttpConfig, roles: &[Role]) -> (&'static str, u16) {
    match roles {
        [Role::Orders] => ("ORDERS_PORT", http.orders_port),
        [Role::Inventory] => ("INVENTORY_PORT", http.inventory_port),
        [Role::Notifications] => ("NOTIFICATIONS_PORT", http.notifications_port),
        _ => ("PORT", http.port),
    }
}

fn refused(address: SocketAddr, variable: &str, error: &io::Error) -> Failure {
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
    Failure::Unusable(format!("can't listen on {address}: {remedy}"))
}
