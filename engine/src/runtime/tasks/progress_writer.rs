//! Writes how far the calls of this process are, for those who watch their sagas.

use std::{collections::HashSet, sync::Arc, time::Duration};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    model::{error_chain::ErrorChain, ids::WorkerId},
    runtime::core::Core,
    store::{self, progress::ProgressRow},
    support::{
        connection,
        parts::{Parts, Statement},
    },
};

/// The shortest time between two statements, however many calls report and however often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Writes what calls report until the engine stops; then once more what is left. While no call reports, it does nothing.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        let stops = tokio::select! {
            () = core.stop.cancelled() => true,
            () = core.calls.reported.notified() => false,
        };
        if core.faults.is_crashed() {
            return;
        }
        if let Err(error) = write(&core).await {
            tracing::debug!(error = %ErrorChain(&error), "can't write the progress of calls now; trying again");
            core.calls.reported.notify_one();
        }
        if stops {
            return;
        }
        tokio::select! {
            () = core.stop.cancelled() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// Writes the newest progress of each call, as far as it is not written. One that can't be written stops no other.
async fn write(core: &Core) -> Result<(), sqlx::Error> {
    let unwritten = core.calls.unwritten();
    let rows: Vec<ProgressRow<'_>> = unwritten.iter().map(|unwritten| unwritten.row()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let mut parts = Parts::of(&rows);
    let result = connection::with_timeout(&core.pool, core.settings.db_timeout(), async |conn| {
        parts.run(WriteProgress { conn, worker: core.worker }).await
    })
    .await;
    for (row, error) in &parts.refused {
        tracing::debug!(saga.id = %row.saga_id, error = %ErrorChain(error), "the progress of a call can't be written");
    }
    // What is refused is not tried again until the call reports something else.
    let untried: HashSet<Uuid> = parts.untried().map(|row| row.saga_id).collect();
    for unwritten in unwritten.iter().filter(|unwritten| !untried.contains(&unwritten.saga_id())) {
        unwritten.written();
    }
    result
}

/// Writes progress on a connection.
struct WriteProgress<'a> {
    conn: &'a mut PgConnection,
    worker: WorkerId,
}

impl<'r> Statement<ProgressRow<'r>> for WriteProgress<'_> {
    type Row = Uuid;

    async fn run(&mut self, rows: &[ProgressRow<'r>]) -> Result<Vec<Uuid>, sqlx::Error> {
        store::progress::write(self.conn, rows, self.worker).await
    }
}
