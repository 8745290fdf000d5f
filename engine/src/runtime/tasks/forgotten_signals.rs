//! Finds signals that no saga was told of, because their sender died after its commit, and settles those that no saga will
//! take any more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::PgConnection;

use crate::{
    model::{error_chain::ErrorChain, ids::SagaId},
    runtime::{
        core::Core,
        effects::{self, CommitEffects},
    },
    store,
    support::{connection, jitter::jittered},
};

/// How often a process that works on queues looks, with jitter.
const INTERVAL: Duration = Duration::from_secs(5);
/// The look takes at most this share of the time.
const SHARE: u32 = 50;
/// How long a look may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How old a signal is that was forgotten.
const FORGOTTEN: Duration = Duration::from_secs(2);
/// How old a signal is whose saga does not exist any more.
const ORPHANED: Duration = Duration::from_mins(1);
/// How many one statement finds.
const FOUND: i64 = 1000;

/// Looks until the engine stops.
pub(crate) async fn run(core: Arc<Core>) {
    let mut pause = INTERVAL;
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(jittered(pause)) => {}
        }
        if core.feeds.open_queues().is_empty() || core.faults.is_crashed() {
            continue;
        }
        let began = Instant::now();
        for work in [Work::Wake, Work::Expire, Work::Delete] {
            let done =
                connection::with_timeout(&core.pool, TIMEOUT, async |conn| work.run(&core, conn).await);
            if let Err(error) = done.await {
                tracing::warn!(
                    work = ?work, error = %ErrorChain(&error),
                    "can't look for forgotten signals now; trying again later"
                );
            }
        }
        pause = INTERVAL.max(began.elapsed() * SHARE);
    }
}

/// What a look does, each within its own time.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Wakes the sagas that wait for a signal which has come, or for children that have ended.
    Wake,
    /// Settles the signals of sagas that have ended.
    Expire,
    /// Deletes the signals of sagas that don't exist any more.
    Delete,
}

impl Work {
    async fn run(self, core: &Core, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        match self {
            Self::Wake => {
                let mut forgotten = store::signals::unnudged(conn, millis(FORGOTTEN), FOUND).await?;
                forgotten.extend(store::children::forgotten(conn, FOUND).await?);
                if !forgotten.is_empty() {
                    tracing::info!(
                        sagas = forgotten.len(),
                        "sagas are woken that were not told of their signals, or of the ends of their children"
                    );
                    core.nudges.add(forgotten);
                }
                let mut after = CommitEffects::default();
                for (id, queue) in store::children::wake_to_tell_again(conn, FOUND).await? {
                    after.due.entry(queue).or_default().push(SagaId(id));
                }
                effects::publish(core, after);
            }
            Self::Expire => {
                store::signals::expire_of_ended(conn, millis(FORGOTTEN), FOUND).await?;
            }
            Self::Delete => {
                store::signals::delete_orphans(conn, millis(ORPHANED), FOUND).await?;
            }
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
