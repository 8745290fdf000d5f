//! The server: an accept loop of our own, because axum's has no time-outs before a request is complete.
//!
//! Connections are closed when they stay silent, send half a head, or read their response too slowly. At shutdown the
//! server accepts no more connections, closes idle ones, and lets running requests finish for as long as the limits
//! allow.

mod accept;
mod connection;
mod connection_limit;
mod write_rate;

use std::{sync::Arc, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{auth::TrustedProxies, load::Limits};

use self::connection_limit::ConnectionLimit;

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// How many connections finished their requests.
    pub finished: usize,
    /// How many connections were cut because they had not finished in time.
    pub cut: usize,
}

/// Serves until `stop` is cancelled, then drains and returns. Connections of `proxies` are not counted by address.
///
/// # Cancel safety
/// Dropping it cuts all connections.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    proxies: TrustedProxies,
    stop: CancellationToken,
) -> Drained {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let limit = ConnectionLimit::new(limits.connections_per_address, limits.connections, proxies);
    let mut connections = JoinSet::new();
    loop {
        // Ended connections are removed on the way, so that the set does not grow.
        while connections.try_join_next().is_some() {}
        let Some((stream, peer, permit)) = accept::next(&listener, &permits, &stop).await else { break };
        let Some(address_permit) = limit.try_acquire(peer) else {
            // The connection is closed. The address gets no more until it closes some; other addresses do not wait for
            // it.
            tracing::debug!(%peer, "an address has too many connections");
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            connection::run(stream, peer, router, &limits, stop).await;
            drop((permit, address_permit));
        });
    }
    drop(listener);
    drain(connections, limits.drain).await
}

async fn drain(mut connections: JoinSet<()>, timeout: Duration) -> Drained {
    let mut finished = 0;
    let all = async {
        while connections.join_next().await.is_some() {
            finished += 1;
        }
    };
    if tokio::time::timeout(timeout, all).await.is_err() {
        let cut = connections.len();
        connections.shutdown().await;
        tracing::warn!(cut, "connections were cut: their requests did not finish in time");
        return Drained { finished, cut };
    }
    Drained { finished, cut: 0 }
}
