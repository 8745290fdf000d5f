//! Turns SIGINT and SIGTERM into one cancellation token.

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A second signal within this time counts as the first one: `timeout` and some supervisors send a signal both to the process
/// and to its group.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1);

/// A token that is cancelled by the first SIGINT or SIGTERM. A second SIGINT ends the process at once, without waiting for
/// the steps in flight.
///
/// # Errors
/// When the handlers can't be installed.
pub(crate) fn on_signal() -> anyhow::Result<CancellationToken> {
    let interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
    let terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    let token = CancellationToken::new();
    tokio::spawn(watch(interrupt, terminate, token.clone()));
    Ok(token)
}

async fn watch(mut interrupt: Signal, mut terminate: Signal, token: CancellationToken) {
    let name = tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    };
    tracing::info!(signal = name, "stopping: work in flight is finished, the rest is released");
    token.cancel();
    let first = Instant::now();
    while interrupt.recv().await.is_some() {
        if first.elapsed() > DUPLICATE_WINDOW {
            tracing::warn!("stopping at once");
            std::process::exit(130);
        }
    }
}
