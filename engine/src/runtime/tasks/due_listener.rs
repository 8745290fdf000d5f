//! Listens for notifications from other processes that sagas are due.

use std::{sync::Arc, time::Duration};

use sqlx::postgres::PgListener;

use crate::{runtime::core::Core, support::jitter};

/// Wakes the claim loops when another process notifies that sagas are due. This is only a hint; the poll finds the same
/// sagas.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        if let Err(error) = listen_once(&core).await {
            tracing::debug!(error = %error, "can't listen for due sagas now; relying on the poll");
        }
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(jitter::jittered(Duration::from_secs(1))) => {}
        }
    }
}

async fn listen_once(core: &Core) -> Result<(), sqlx::Error> {
    // Only feeds need hints, so a process without feeds, such as an API server, opens no connection for them.
    while core.feeds.open_queues().is_empty() {
        tokio::select! {
            () = core.stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
    let mut listener = PgListener::connect_with(&core.pool).await?;
    listener.listen("engine_due").await?;
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return Ok(()),
            hint = listener.try_recv() => match hint? {
                Some(hint) => core.feeds.wake(hint.payload()),
                // The connection was lost, and notifications may have been missed.
                None => core.feeds.wake_all(),
            }
        }
    }
}
