//! Wakes the claims of this process when another process says that there is work.

use std::{sync::Arc, time::Duration};

use sqlx::postgres::PgListener;

use crate::{runtime::core::Core, support::jitter};

/// Wakes feeds when a process elsewhere says that there is work. Only a hint: the poll stands behind.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        if let Err(error) = listen_once(&core).await {
            tracing::debug!(error = %error, "can't listen for hints now; the poll goes on");
        }
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(jitter::jittered(Duration::from_secs(1))) => {}
        }
    }
}

async fn listen_once(core: &Core) -> Result<(), sqlx::Error> {
    // Without a feed nobody needs hints, and an API process saves a connection.
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
                // The connection was lost and with it perhaps hints.
                None => core.feeds.wake_all(),
            }
        }
    }
}
