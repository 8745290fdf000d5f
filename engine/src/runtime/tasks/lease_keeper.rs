//! Keeps this process's claims: extends leases before they end, gives claims back, listens for work elsewhere.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection, postgres::PgListener};

use crate::{engine::Core, store, support::connection};

/// Extends leases and flushes releases until the engine stops.
pub(crate) async fn keep(core: Arc<Core>) {
    let third = core.settings.lease / 3;
    let mut line = Line::default();
    while !core.stop.is_cancelled() {
        tokio::select! {
            () = core.stop.cancelled() => break,
            () = tokio::time::sleep(third / 2) => {}
            () = core.lease_wakeup.notified() => {}
        }
        if core.is_crashed() {
            break;
        }
        extend(&core, &mut line, third).await;
        core.flush_releases().await;
    }
}

async fn extend(core: &Core, line: &mut Line, age: Duration) {
    let ids = core.leases.older_than(age);
    if ids.is_empty() {
        return;
    }
    let asked = Instant::now();
    match line.extend(core, &ids).await {
        Ok(extended) => {
            // Rows that were locked or lost are passed over here; the next round, or the fence, sees to them.
            core.leases.extended(&extended, asked);
            tracing::trace!(held = ids.len(), extended = extended.len(), "extended leases");
        }
        Err(error) => tracing::debug!(error = %error, "can't extend leases now; trying again"),
    }
}

/// A connection of the keeper's own, so that no lease ends because steps have taken all others.
#[derive(Default)]
struct Line {
    connection: Option<PgConnection>,
}

impl Line {
    async fn extend(&mut self, core: &Core, ids: &[uuid::Uuid]) -> Result<Vec<uuid::Uuid>, sqlx::Error> {
        let work = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => PgConnection::connect_with(&core.pool.connect_options()).await?,
            };
            let extended = store::claims::extend(&mut connection, ids, core.worker, core.lease_ms()).await?;
            // Only a connection that answered is kept.
            self.connection = Some(connection);
            Ok(extended)
        };
        let limit = core.settings.db_timeout();
        tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(connection::timed_out("no answer in time")))
    }
}

/// Wakes feeds when a process elsewhere says that there is work. Only a hint: the poll stands behind.
pub(crate) async fn listen(core: Arc<Core>) {
    loop {
        if let Err(error) = listen_once(&core).await {
            tracing::debug!(error = %error, "can't listen for hints now; the poll goes on");
        }
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(crate::support::jitter::jittered(Duration::from_secs(1))) => {}
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
