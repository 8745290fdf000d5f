//! Polls for sagas that ended in other processes while a caller waits for them here.

use std::{sync::Arc, time::Duration};

use crate::{
    runtime::core::Core,
    store,
    support::{connection, jitter},
};

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Polls until the engine shuts down.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        let idle = core.waiters.is_empty();
        let pause = async {
            if idle {
                core.waiters.waiter_added.notified().await;
            }
            tokio::time::sleep(jitter::jittered(POLL_INTERVAL)).await;
        };
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = pause => {}
        }
        let waiting = core.waiters.past_grace();
        if waiting.is_empty() {
            continue;
        }
        let looked = connection::with_timeout(&core.pool, core.settings.db_timeout(), async |conn| {
            store::queries::endings(conn, &waiting).await
        });
        match looked.await {
            Ok(ended) => core.waiters.notify(&ended),
            Err(error) => tracing::debug!(error = %error, "can't poll for ended sagas now; trying again"),
        }
    }
}
