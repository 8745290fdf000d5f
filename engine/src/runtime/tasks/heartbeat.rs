//! Tells the database that this process lives and what it knows, and wakes the sagas that waited for such a process.

use std::{sync::Arc, time::Duration};

use crate::{
    runtime::{core::Core, settings::ProcessInfo},
    store::{self, processes::ProcessRow},
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
                tracing::debug!(error = %error, "can't renew the row of this process now; trying again");
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
        tracing::debug!(error = %error, "can't delete the row of this process; it counts as vanished soon");
    }
}

/// Renews the row, and returns whether there is one.
async fn beat(core: &Core, registered: bool) -> Result<bool, sqlx::Error> {
    let queues = core.feeds.open_queue_names();
    if !queues.is_empty() {
        core.process.get_or_init(|| ProcessInfo::of("engine", env!("CARGO_PKG_VERSION")));
    }
    let Some(process) = core.process.get() else { return Ok(false) };
    let woken = connection::with_timeout(&core.pool, core.settings.db_timeout(), async |conn| {
        if !registered {
            for definition in core.definitions.values() {
                store::processes::store_graph(conn, &definition.graph, definition.input_schema()).await?;
            }
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
            draining: core.feeds.is_draining(),
        };
        store::processes::beat(conn, &row).await?;
        if queues.is_empty() {
            return Ok(Vec::new());
        }
        store::processes::wake_known(conn, &queues, &core.steps, WAKE_BATCH).await
    })
    .await?;
    if i64::try_from(woken.len()).is_ok_and(|count| count == WAKE_BATCH) {
        core.feeds.changed.notify_one();
    }
    if !woken.is_empty() {
        tracing::info!(sagas = woken.len(), "sagas go on that waited for a process which knows their step");
    }
    for queue in woken {
        core.feeds.wake(&queue);
    }
    Ok(true)
}

async fn leave(core: &Core) -> Result<(), sqlx::Error> {
    connection::with_timeout(&core.pool, Duration::from_secs(1), async |conn| {
        store::processes::leave(conn, core.worker).await
    })
    .await
}
