//! Turns SIGINT and SIGTERM into one cancellation token.

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::terminal;

/// A second signal within this time counts as the first one: `timeout` and some supervisors send a signal both to the process
/// and to its group.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1);

/// A command was ended by a signal before it was done.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// A token that is cancelled by the first SIGINT or SIGTERM. A second SIGINT ends the process at once, without waiting for
/// the steps in flight.
///
/// # Errors
/// When the handlers can't be installed.
pub(crate) fn on_signal() -> anyhow::Result<CancellationToken> {
    let (mut signals, token) = (Signals::listen()?, CancellationToken::new());
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = signals.first().await;
        tracing::info!(signal = name, "stopping: work in flight is finished, the rest is released");
        cancelled.cancel();
        signals.exit_on_second().await;
    });
    Ok(token)
}

/// As [`on_signal`], for a command that removes what it has started: further signals do not keep it from that. Call it
/// before anything is started.
///
/// # Errors
/// As [`on_signal`].
pub(crate) fn on_signal_before_cleanup() -> anyhow::Result<CancellationToken> {
    let (mut signals, token) = (Signals::listen()?, CancellationToken::new());
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = signals.first().await;
        terminal::eprint(format_args!("{name}: stopping and removing what was started"));
        cancelled.cancel();
    });
    Ok(token)
}

/// The signals that ask for the end of the process. From now on they no longer end it by themselves.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits for the first one, and returns its name.
    async fn first(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// Ends the process at the next SIGINT.
    async fn exit_on_second(&mut self) {
        let first = Instant::now();
        while self.interrupt.recv().await.is_some() {
            if first.elapsed() > DUPLICATE_WINDOW {
                tracing::warn!("stopping at once");
                std::process::exit(130);
            }
        }
    }
}
