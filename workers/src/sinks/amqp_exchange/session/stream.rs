//! The stream of a broker connection: TCP, or TLS over TCP for `amqps`.
//!
//! lapin accepts any stream that its runtime provides. This runtime is tokio's, with a stream that uses the same TLS as
//! our other connections. lapin's own TLS would add a reader of PKCS#12 files, for client certificates that no setting
//! can name.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use async_rs::{Runtime, Tokio, traits::Reactor, util::RuntimeParts};
use futures::{AsyncRead, AsyncWrite, Stream, TryFutureExt};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use tokio_util::{
    compat::{Compat, TokioAsyncReadCompatExt},
    either::Either,
};

/// What lapin reads from and writes to.
pub(super) type BrokerStream = Compat<Either<TcpStream, TlsStream<TcpStream>>>;

/// Wraps a connected socket that speaks in the clear.
pub(super) fn plain(socket: TcpStream) -> BrokerStream {
    Either::Left(socket).compat()
}

/// Makes a connected socket speak TLS with `host`, which needs a certificate that the system trusts.
///
/// # Errors
/// When the system has no certificates, `host` is not a valid name, or the certificate does not match it.
pub(super) async fn encrypted(socket: TcpStream, host: &str) -> io::Result<BrokerStream> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Either::Right(connector()?.connect(name, socket).await?).compat())
}

fn connector() -> io::Result<TlsConnector> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(io::Error::other(format!("the system has no certificates to trust: {:?}", found.errors)));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// lapin's runtime: tokio, with [`BrokerStream`] for its streams. Call it inside the runtime.
pub(super) fn runtime() -> Runtime<RuntimeParts<Tokio, BrokerReactor>> {
    Runtime::new(RuntimeParts::new(Tokio::current(), BrokerReactor(Tokio::current())))
}

/// tokio's reactor, with another stream.
#[derive(Clone, Debug)]
pub(super) struct BrokerReactor(Tokio);

impl Reactor for BrokerReactor {
    type TcpStream = BrokerStream;
    type Sleep = tokio::time::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, period: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(period)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        TcpStream::connect(address).map_ok(plain)
    }
}
