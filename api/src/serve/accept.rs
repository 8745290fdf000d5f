//! Accepts connections, as many as there are permits, and survives running out of file descriptors.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Waits for a permit and then for a connection; `None` once `stop` is cancelled.
pub(super) async fn next(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let permit = stop.run_until_cancelled(Arc::clone(permits).acquire_owned()).await?.ok()?;
    let mut pause = FIRST_PAUSE;
    loop {
        match stop.run_until_cancelled(listener.accept()).await? {
            Ok((stream, peer)) => return Some((stream, peer.ip(), permit)),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM): other connections will free some.
                tracing::error!(error = %engine::ErrorChain(&error), pause_ms = pause.as_millis(), "no connection can be accepted at the moment");
                stop.run_until_cancelled(tokio::time::sleep(pause)).await?;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

/// Whether the error concerns one connection only: its caller left before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
