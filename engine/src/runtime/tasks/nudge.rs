//! Makes sagas due for which a signal was stored. The sender waits for no lock of the saga; after its commit one statement
//! nudges all sagas whose signals were stored meanwhile.
//!
//! A saga that another transaction holds is nudged again until it is free, because it may just be entering its wait without
//! having seen the signal. What is lost all the same, `forgotten_signals.rs` finds.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{
    model::{error_chain::ErrorChain, ids::SagaId},
    runtime::{
        core::Core,
        effects::{self, CommitEffects},
    },
    store::{self, signals::NudgedRow},
    support::{connection, jitter::jittered},
};

/// How many sagas one statement nudges.
const BATCH: usize = 500;
/// How soon a saga is nudged again that is still locked; the pause doubles up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// For how long; then the look for forgotten signals stands behind it.
const GIVES_UP: Duration = Duration::from_secs(10);

/// Sagas that another transaction held, each with the time of its first nudge.
type Locked = BTreeMap<Uuid, Instant>;

/// Nudges until the engine stops; then once more what is left.
pub(crate) async fn run(core: Arc<Core>) {
    let (mut locked, mut retry) = (Locked::new(), FIRST_RETRY);
    loop {
        let stops = tokio::select! {
            () = core.stop.cancelled() => true,
            () = core.nudges.wakeup.notified() => false,
            () = tokio::time::sleep(jittered(retry)), if !locked.is_empty() => false,
        };
        if core.faults.is_crashed() {
            return;
        }
        let before = locked.len();
        if let Err(error) = nudge_all(&core, &mut locked).await {
            tracing::debug!(error = %ErrorChain(&error), "can't nudge sagas now; their signals are found later");
            locked.clear();
        }
        if stops {
            return;
        }
        retry = if locked.len() < before || before == 0 { FIRST_RETRY } else { (retry * 2).min(LAST_RETRY) };
    }
}

/// Nudges all sagas that are to be nudged, and those that were locked. Those that still are, are in `locked` afterwards.
async fn nudge_all(core: &Core, locked: &mut Locked) -> Result<(), sqlx::Error> {
    let first = std::mem::take(locked);
    let mut ids: Vec<Uuid> = first.keys().copied().collect();
    loop {
        ids.extend(core.nudges.take(BATCH));
        if ids.is_empty() {
            return Ok(());
        }
        for batch in ids.chunks(BATCH) {
            for row in nudge(core, batch).await?.iter().filter(|row| row.locked) {
                let since = first.get(&row.id).copied().unwrap_or_else(Instant::now);
                if since.elapsed() < GIVES_UP {
                    locked.insert(row.id, since);
                }
            }
        }
        ids.clear();
    }
}

async fn nudge(core: &Core, ids: &[Uuid]) -> Result<Vec<NudgedRow>, sqlx::Error> {
    let rows = connection::with_timeout(&core.pool, core.settings.db_timeout(), async |conn| {
        store::signals::nudge(conn, ids).await
    })
    .await?;
    let mut after = CommitEffects::default();
    for row in rows.iter().filter(|row| row.woken) {
        after.due.entry(row.queue.clone()).or_default().push(SagaId(row.id));
    }
    effects::publish(core, after);
    Ok(rows)
}
