//! The socket of a broker connection, shut down when it is dropped.
//!
//! lapin runs a thread per connection, and the thread of a dropped connection ends only after it has sent its close
//! frame. It never can to a broker that is blocked or stopped, so this holds a copy of the socket: its shutdown ends the
//! thread.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::Arc,
};

use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties,
    uri::{AMQPScheme, AMQPUri},
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::stream;

/// Shuts its connection's socket down when it is dropped.
#[derive(Default)]
pub(super) struct AbortOnDropSocket {
    tcp: Arc<Mutex<Option<TcpStream>>>,
    aborted: CancellationToken,
}

impl AbortOnDropSocket {
    /// Connects to the broker, without a time-out.
    pub(super) async fn connect(
        &self,
        uri: AMQPUri,
        options: ConnectionProperties,
    ) -> lapin::Result<Connection> {
        let (tcp, aborted) = (Arc::clone(&self.tcp), self.aborted.clone());
        Connection::connector(
            uri,
            stream::runtime(),
            async move |uri: AMQPUri, _| {
                let connecting = async {
                    let host = uri.authority.host.as_str();
                    let addresses = tokio::net::lookup_host((host, uri.authority.port)).await?;
                    let addresses: Vec<SocketAddr> = addresses.collect();
                    let socket = tokio::net::TcpStream::connect(addresses.as_slice()).await?;
                    socket.set_nodelay(true)?;
                    *tcp.lock() = Some(TcpStream::from(socket.as_fd().try_clone_to_owned()?));
                    let stream = match uri.scheme {
                        AMQPScheme::AMQP => stream::plain(socket),
                        AMQPScheme::AMQPS => stream::encrypted(socket, host).await?,
                    };
                    Ok(AsyncTcpStream::Plain(stream))
                };
                let connected: io::Result<_> = tokio::select! {
                    connected = connecting => connected,
                    () = aborted.cancelled() => Err(io::ErrorKind::ConnectionAborted.into()),
                };
                Ok(connected?)
            },
            options,
        )
        .await
    }
}

impl Drop for AbortOnDropSocket {
    fn drop(&mut self) {
        self.aborted.cancel();
        if let Some(socket) = self.tcp.lock().take() {
            // Fails if it is closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
