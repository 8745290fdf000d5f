//! Finds what claims overlook. A claim looks back only for a short time (`queue/scan_window.rs`), so a saga whose
//! transaction committed long after the time that it wrote is found here, and claimed by id. And a claim leaves sagas
//! alone whose graph this process does not know: if no live process knows it, the sweep sets them aside, until a process
//! that knows the graph starts.
//!
//! A sweep reads every entry of the index from the oldest on, dead ones too, so the next begins only after many times the
//! time that it took.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    model::error_chain::ErrorChain,
    runtime::{
        core::Core,
        quarantine::{FindingStatement, Found, Work},
        queue::scan_window::FAR,
    },
    store::{
        self,
        processes::{Overdue, Unknown},
        rows::Rows,
    },
    support::{connection, jitter::jittered},
};

/// How many sagas one statement finds or sets aside.
const BATCH: i64 = 1000;
/// How long a statement may take.
const TIMEOUT: Duration = Duration::from_mins(1);
/// A sweep takes at most this share of the time.
const SHARE: u32 = 50;
/// How long the row of a process that vanished is kept, for people.
const VANISHED_KEPT: Duration = Duration::from_hours(24);

/// Sweeps until the engine stops, in a process that works on queues.
pub(crate) async fn run(core: Arc<Core>) {
    let mut pause = core.settings.sweep;
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(jittered(pause)) => {}
        }
        let began = Instant::now();
        if let Err(error) = sweep(&core).await {
            tracing::warn!(error = %ErrorChain(&error), "can't sweep now; trying again later");
        }
        pause = core.settings.sweep.max(began.elapsed() * SHARE);
    }
}

async fn sweep(core: &Core) -> Result<(), sqlx::Error> {
    let queues = core.feeds.open_queue_names();
    if queues.is_empty() {
        return Ok(());
    }
    connection::with_timeout(&core.pool, TIMEOUT, async |conn| {
        for queue in &queues {
            find_overlooked(core, conn, queue).await?;
        }
        set_aside_unknown(core, conn, &queues).await?;
        store::processes::forget_vanished(conn, millis(VANISHED_KEPT)).await.map(drop)
    })
    .await
}

/// Has sagas claimed by id that claims of this process overlooked, or that are a backlog.
async fn find_overlooked(core: &Core, conn: &mut PgConnection, queue: &str) -> Result<(), sqlx::Error> {
    let Some(feed) = core.feeds.feed(queue) else { return Ok(()) };
    let older = millis(FAR.min(core.settings.sweep));
    let ids = store::processes::overlooked(conn, queue, &core.hashes, older, BATCH).await?;
    if !ids.is_empty() {
        tracing::debug!(queue, sagas = ids.len(), "sagas have been due for long");
        feed.name_sagas(ids);
    }
    Ok(())
}

async fn set_aside_unknown(
    core: &Core,
    conn: &mut PgConnection,
    queues: &[String],
) -> Result<(), sqlx::Error> {
    for overdue in [Overdue::Waiting, Overdue::Lapsed] {
        let unknown = Unknown {
            overdue,
            queues,
            own_hashes: &core.hashes,
            overdue_ms: millis(core.settings.unknown_grace),
            alive_ms: core.settings.alive_ms(),
            limit: BATCH,
        };
        while set_aside_some(core, conn, unknown).await? {}
    }
    Ok(())
}

/// Sets some sagas aside, and tells whether there may be more.
async fn set_aside_some(
    core: &Core,
    conn: &mut PgConnection,
    unknown: Unknown<'_>,
) -> Result<bool, sqlx::Error> {
    let mut aside = Vec::new();
    let statement = SetAside { conn, unknown, aside: &mut aside };
    let found = core.quarantine.change_found(Work::SetAside, statement).await?;
    if let Some((definition, hash)) = aside.first() {
        tracing::warn!(
            sagas = aside.len(), saga.definition = %definition, saga.graph_hash = %hash,
            "no live process knows the graph of these sagas; they wait for one that does"
        );
    }
    let in_parts = found == Found::InParts && !aside.is_empty();
    Ok(in_parts || i64::try_from(aside.len()).is_ok_and(|count| count == BATCH))
}

/// Sets sagas aside whose graph no live process knows, and adds their definitions and graphs to `aside`.
struct SetAside<'a> {
    conn: &'a mut PgConnection,
    unknown: Unknown<'a>,
    aside: &'a mut Vec<(String, String)>,
}

impl FindingStatement for SetAside<'_> {
    async fn change(&mut self, rows: Rows<'_>) -> Result<Vec<Uuid>, sqlx::Error> {
        let set = store::processes::set_aside_unknown(self.conn, self.unknown, rows).await?;
        let ids = set.iter().map(|(id, _, _)| *id).collect();
        self.aside.extend(set.into_iter().map(|(_, definition, hash)| (definition, hash)));
        Ok(ids)
    }

    async fn find(&mut self, rows: Rows<'_>) -> Result<Vec<Uuid>, sqlx::Error> {
        store::processes::overdue_unknown(self.conn, self.unknown, rows).await
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
