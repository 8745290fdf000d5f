//! Tells the database that this process lives and what it knows, and wakes the sagas that waited for such a process.

use std::{sync::Arc, time::Duration};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    model::error_chain::ErrorChain,
    runtime::{
        core::Core,
        quarantine::{FindingStatement, Found, Work},
        settings::ProcessInfo,
    },
    store::{
        self,
        processes::{Known, ProcessRow},
        rows::Rows,
    },
    support::{connection, jitter::jittered},
};

/// How many waiting sagas one statement wakes.
const WAKE_BATCH: i64 = 500;

/// Renews the row of this process until the engine stops, and then deletes it. A process that works on no queue and was
/// not announced has none, such as a command.
pub(crate) async fn run(core: Arc<Core>) {
    let mut registered = false;
    loop {
        if core.faults.is_crashed() {
            return;
        }
        match beat(&core, registered).await {
            Ok(listed) => registered = listed,
            Err(error) => {
                tracing::debug!(error = %ErrorChain(&error), "can't renew the row of this process now; trying again");
            }
        }
        tokio::select! {
            () = core.stop.cancelled() => break,
            () = core.feeds.changed.notified() => {}
            () = tokio::time::sleep(jittered(core.settings.heartbeat())) => {}
        }
    }
    if registered
        && !core.faults.is_crashed()
        && let Err(error) = leave(&core).await
    {
        tracing::debug!(error = %ErrorChain(&error), "can't delete the row of this process; it counts as vanished soon");
    }
}

/// Renews the row, and returns whether there is one.
async fn beat(core: &Core, registered: bool) -> Result<bool, sqlx::Error> {
    let queues = core.feeds.open_queue_names();
    if !queues.is_empty() {
        core.process.get_or_init(|| ProcessInfo::of("engine", env!("CARGO_PKG_VERSION")));
    }
    let Some(process) = core.process.get() else { return Ok(false) };
    let mut woken = Vec::new();
    let found = connection::with_timeout(&core.pool, core.settings.db_timeout(), async |conn| {
        if !registered {
            core.graphs.ensure_stored(&core.definitions, conn).await?;
        }
        let row = ProcessRow {
            id: core.worker,
            host: &process.host,
            pid: process.pid,
            version: &process.version,
            role: &process.role,
            queues: &queues,
            hashes: &core.hashes,
            steps: &core.steps,
            in_flight: i32::try_from(core.leases.count()).unwrap_or(i32::MAX),
            capacity: i32::try_from(core.feeds.capacity()).unwrap_or(i32::MAX),
            draining: core.feeds.is_draining(),
        };
        store::processes::beat(conn, &row).await?;
        if queues.is_empty() {
            return Ok(Found::Whole);
        }
        let known = Known { queues: &queues, hashes: &core.hashes, limit: WAKE_BATCH };
        let statement = WakeKnown { conn: &mut *conn, known, queues: &mut woken };
        core.quarantine.change_found(Work::Wake, statement).await
    })
    .await?;
    let in_parts = found == Found::InParts && !woken.is_empty();
    if in_parts || i64::try_from(woken.len()).is_ok_and(|count| count == WAKE_BATCH) {
        core.feeds.changed.notify_one();
    }
    if !woken.is_empty() {
        tracing::info!(sagas = woken.len(), "sagas go on that waited for a process which knows their graph");
    }
    for queue in woken {
        core.feeds.wake(&queue);
    }
    Ok(true)
}

/// Wakes the sagas whose graph this process knows, and adds their queues to `queues`.
struct WakeKnown<'a> {
    conn: &'a mut PgConnection,
    known: Known<'a>,
    queues: &'a mut Vec<String>,
}

impl FindingStatement for WakeKnown<'_> {
    async fn change(&mut self, rows: Rows<'_>) -> Result<Vec<Uuid>, sqlx::Error> {
        let woken = store::processes::wake_known(self.conn, self.known, rows).await?;
        let (ids, queues): (Vec<_>, Vec<_>) = woken.into_iter().unzip();
        self.queues.extend(queues);
        Ok(ids)
    }

    async fn find(&mut self, rows: Rows<'_>) -> Result<Vec<Uuid>, sqlx::Error> {
        store::processes::waiting_known(self.conn, self.known, rows).await
    }
}

async fn leave(core: &Core) -> Result<(), sqlx::Error> {
    connection::with_timeout(&core.pool, Duration::from_secs(1), async |conn| {
        store::processes::leave(conn, core.worker).await
    })
    .await
}
