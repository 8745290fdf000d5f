//! Serves one connection, from its first byte to its end.

use std::{net::IpAddr, pin::pin};

use axum::{Router, body::Body};
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::write_rate::MinWriteRate;
use crate::{auth::Peer, load::Limits};

/// A head larger than this gets a bare 431 from hyper; below it our own limits answer with a problem.
const HEAD_BUFFER_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 256;

pub(super) async fn run(
    stream: TcpStream,
    peer: IpAddr,
    router: Router,
    limits: &Limits,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = %engine::ErrorChain(&error), "a connection was gone before it began");
        return;
    }
    // `readable` would also return for a closed connection; `peek` tells the difference.
    let mut byte = [0];
    let first = tokio::time::timeout(limits.first_byte_timeout, stream.peek(&mut byte));
    match stop.run_until_cancelled(first).await {
        Some(Ok(Ok(1..))) => {}
        Some(Ok(Ok(0) | Err(_)) | Err(_)) | None => return,
    }
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.map(Body::new)
    });
    // hyper has no time-out for a caller that does not read its answer.
    let io = TokioIo::new(MinWriteRate::new(stream, limits.write_timeout, limits.write_bytes_per_s));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEAD_BUFFER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(io, TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    let ended = if let Some(ended) = stop.run_until_cancelled(connection.as_mut()).await {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    if let Err(error) = ended {
        // The caller hung up, did not speak HTTP, or was too slow.
        tracing::debug!(error = %engine::ErrorChain(&error), "a connection ended early");
    }
}
