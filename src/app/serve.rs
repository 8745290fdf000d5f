//! Serves the HTTP API of one process, from the first request to the orderly shutdown.

use std::{sync::Arc, time::Duration};

use api::{ApiState, Limits, MailState};
use breakers::BreakerState;
use shop::{Shop, mail::Mailer};
use tokio_util::sync::CancellationToken;

use super::{access::access, context::ProcessContext, listen::Listening};
use crate::exit_error::ExitError;

/// Serves a socket until `quit`. Then the process reports itself as not ready, and continues to serve for the
/// configured delay while load balancers notice. After that it accepts no connections, answers requests that wait
/// for a result (`Prefer: wait`) early, and lets open requests finish.
///
/// # Errors
/// When the settings can't be used.
pub(crate) async fn serve(
    process: &ProcessContext,
    shop: &Shop,
    mailer: &Mailer,
    socket: Listening,
    quit: CancellationToken,
) -> Result<(), ExitError> {
    let config = &process.config;
    let limits = Limits {
        connections_per_address: config.access.connections_per_address,
        event_streams: config.events.streams,
        ..Limits::default()
    };
    let mailer = mailer.clone();
    let mut state = ApiState::builder(shop.clone(), process.telemetry.metrics())
        .mail(Arc::new(move || mail_state(&mailer)))
        .limits(limits)
        .access(access(config, &process.breakers)?);
    if let Some(propagator) = process.telemetry.trace_propagator() {
        state = state.trace_propagator(propagator);
    }
    let state = state.build().map_err(anyhow::Error::from)?;
    let router = api::router(state.clone(), &socket.services);
    // Load balancers send no requests to a worker's port, so it needs no delay.
    let delay = if socket.services.is_empty() { Duration::ZERO } else { config.http.drain_delay };
    let closing = CancellationToken::new();
    let draining = async {
        quit.cancelled().await;
        state.drain();
        if !delay.is_zero() {
            tracing::info!(address = %socket.address, delay_ms = delay.as_millis(), "no longer ready; still serving until load balancers notice");
            tokio::time::sleep(delay).await;
        }
        state.close_streams();
        shop.engine().close_waits();
        closing.cancel();
    };
    let proxies = config.access.trusted_proxies.clone();
    let (drained, ()) =
        tokio::join!(api::serve(socket.listener, router, limits, proxies, closing.clone()), draining);
    state.close().await;
    tracing::info!(address = %socket.address, finished = drained.finished, cut = drained.cut, "no longer serving");
    Ok(())
}

fn mail_state(mailer: &Mailer) -> MailState {
    match mailer.state() {
        BreakerState::Closed => MailState::Up,
        BreakerState::HalfOpen => MailState::Probing,
        BreakerState::Open => MailState::Down,
    }
}
