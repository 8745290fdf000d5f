//! The socket of a connection, which is cut when nobody wants the connection any more.
//!
//! lapin has a thread for each connection, and one that is dropped ends only after it could send its goodbye. To a broker
//! that is blocked or stands still it never can, so its socket is held here as well: shut down, it ends the thread.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
};

use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties,
    runtime::default_runtime,
    tcp::TLSConfig,
    uri::{AMQPScheme, AMQPUri},
};
use tokio_util::sync::CancellationToken;

/// Cuts what it has connected when it is dropped.
#[derive(Default)]
pub(super) struct AbortOnDropSocket {
    tcp: Arc<Mutex<Option<TcpStream>>>,
    aborted: CancellationToken,
}

impl AbortOnDropSocket {
    /// Connects to the broker, without end if that does not answer.
    pub(super) async fn connect(
        &self,
        uri: AMQPUri,
        options: ConnectionProperties,
    ) -> lapin::Result<Connection> {
        let (tcp, aborted) = (Arc::clone(&self.tcp), self.aborted.clone());
        Connection::connector(
            uri,
            default_runtime()?,
            async move |uri: AMQPUri, runtime| {
                let connecting = async {
                    let host = uri.authority.host.as_str();
                    let addresses = tokio::net::lookup_host((host, uri.authority.port)).await?;
                    let stream =
                        AsyncTcpStream::connect(&runtime, addresses.collect::<Vec<SocketAddr>>()).await?;
                    if let AsyncTcpStream::Plain(plain) = &stream {
                        plain.get_ref().set_nodelay(true)?;
                        let socket = TcpStream::from(plain.get_ref().as_fd().try_clone_to_owned()?);
                        *tcp.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
                    }
                    match uri.scheme {
                        AMQPScheme::AMQP => Ok(stream),
                        AMQPScheme::AMQPS => stream.into_tls(host, TLSConfig::default()).await,
                    }
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
        if let Some(socket) = self.tcp.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
