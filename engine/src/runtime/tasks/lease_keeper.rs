//! Keeps the claims of this process: extends leases before they end, and writes releases.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    model::error_chain::ErrorChain,
    runtime::{
        core::Core,
        lease_updates::{self, ExtendLeases, Flushed},
    },
    store::claims::ExtendedRow,
    support::{connection, parts::Parts},
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
        core.quarantine.report();
        pause = match lease_updates::flush_releases(&core).await {
            Flushed::All => third / 2,
            Flushed::Partly => lease_updates::LOCKED_RETRY.min(third / 2),
        };
    }
}

async fn extend(core: &Core, connection: &mut LeaseConnection, age: Duration) {
    let ids = lease_updates::extendable(core, &core.leases.older_than(age));
    if ids.is_empty() {
        return;
    }
    let (asked, mut parts) = (Instant::now(), Parts::of(&ids));
    if let Err(error) = connection.extend(core, &mut parts).await {
        tracing::debug!(error = %ErrorChain(&error), "can't extend leases now; trying again");
    }
    tracing::trace!(held = ids.len(), extended = parts.done.len(), "extended leases");
    lease_updates::record_extended(core, &parts, asked);
}

/// A connection outside the pool, so that leases are extended even when steps use all pooled connections.
#[derive(Default)]
struct LeaseConnection {
    connection: Option<PgConnection>,
}

impl LeaseConnection {
    async fn extend(
        &mut self,
        core: &Core,
        parts: &mut Parts<'_, Uuid, ExtendedRow>,
    ) -> Result<(), sqlx::Error> {
        let work = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => PgConnection::connect_with(&core.pool.connect_options()).await?,
            };
            let result = parts.run(ExtendLeases { core, conn: &mut connection }).await;
            // The connection is kept only if it answered.
            if result.as_ref().err().is_none_or(connection::is_usable_after) {
                self.connection = Some(connection);
            }
            result
        };
        let limit = core.settings.db_timeout();
        tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(connection::timed_out("no answer in time")))
    }
}
