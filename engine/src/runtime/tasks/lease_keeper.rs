//! Keeps the claims of this process: extends leases before they end, and writes releases.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};

use crate::{
    runtime::{
        core::Core,
        lease_updates::{self, Flushed},
    },
    store,
    support::connection,
};

/// Extends leases and writes releases until the engine stops.
pub(crate) async fn run(core: Arc<Core>) {
    let third = core.settings.lease / 3;
    let mut connection = LeaseConnection::default();
    let mut pause = third / 2;
    while !core.stop.is_cancelled() {
        tokio::select! {
            () = core.stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
            () = core.lease_wakeup.notified() => {}
        }
        if core.faults.is_crashed() {
            break;
        }
        extend(&core, &mut connection, third).await;
        pause = match lease_updates::flush_releases(&core).await {
            Flushed::All => third / 2,
            Flushed::ButLocked => lease_updates::LOCKED_RETRY.min(third / 2),
        };
    }
}

async fn extend(core: &Core, connection: &mut LeaseConnection, age: Duration) {
    let ids = core.leases.older_than(age);
    if ids.is_empty() {
        return;
    }
    let asked = Instant::now();
    match connection.extend(core, &ids).await {
        Ok(extended) => {
            // Locked or lost rows are skipped here; the next round or the fence handles them.
            core.leases.extended(&extended, asked);
            tracing::trace!(held = ids.len(), extended = extended.len(), "extended leases");
        }
        Err(error) => tracing::debug!(error = %error, "can't extend leases now; trying again"),
    }
}

/// A connection outside the pool, so that leases are extended even when steps use all pooled connections.
#[derive(Default)]
struct LeaseConnection {
    connection: Option<PgConnection>,
}

impl LeaseConnection {
    async fn extend(&mut self, core: &Core, ids: &[uuid::Uuid]) -> Result<Vec<uuid::Uuid>, sqlx::Error> {
        let work = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => PgConnection::connect_with(&core.pool.connect_options()).await?,
            };
            let extended = store::claims::extend(&mut connection, ids, core.worker, core.lease_ms()).await?;
            // The connection is kept only if it answered.
            self.connection = Some(connection);
            Ok(extended)
        };
        let limit = core.settings.db_timeout();
        tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(connection::timed_out("no answer in time")))
    }
}
