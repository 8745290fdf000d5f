//! Deletes rows that are kept for a limited time: the oldest first, in small batches, one process at a time.
//!
//! What is deleted is listed in [`Prunable`]. To add to it: a variant here, and the two statements beside the rows' other
//! SQL, one that deletes a batch and one that measures the lag. Both need an index on the time by which rows expire.

mod write;

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use sqlx::{Connection, PgConnection, PgPool};

use super::{idempotency, pruned_batch::PrunedBatch};

const PRUNED: &str = "sagaline_pruned_total";
const LAG: &str = "sagaline_prune_lag_seconds";

/// How many rows one batch deletes, so that it ends soon.
const BATCH_SIZE: u32 = 1000;
/// The time limit of one batch. Without it, a batch on a connection that is dead without a sign would never end.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Describes the metrics of pruning to the recorder; called once, after the recorder is installed.
pub fn describe_metrics() {
    describe_counter!(PRUNED, Unit::Count, "Rows deleted because they are over their time, by what they are");
    describe_gauge!(
        LAG,
        Unit::Seconds,
        "For how long the oldest row has been over its time, by what it is; measured after each round of deletions"
    );
}

/// Rows that are kept for a limited time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Prunable {
    /// Stored responses to requests with an `Idempotency-Key`.
    IdempotencyKeys,
}

impl Prunable {
    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        self.into()
    }

    async fn delete_batch(
        self,
        conn: &mut PgConnection,
        after: Option<DateTime<Utc>>,
    ) -> Result<PrunedBatch, sqlx::Error> {
        match self {
            Self::IdempotencyKeys => idempotency::delete_expired(conn, after, BATCH_SIZE).await,
        }
    }

    /// For how long the oldest row has been over its time; zero if none is.
    ///
    /// # Errors
    /// When the database refuses or can't be reached.
    pub async fn lag(self, pool: &PgPool) -> Result<Duration, sqlx::Error> {
        engine::with_timeout(pool, BATCH_TIMEOUT, async |conn| match self {
            Self::IdempotencyKeys => idempotency::expired_for(conn).await,
        })
        .await
    }
}

/// Deletes all rows that are over their time, and returns how many. Ends early if another process deletes them now.
///
/// It pauses between two batches for as long as the last one took, so it uses at most half of one connection's time.
///
/// # Errors
/// When the database refuses or can't be reached. What was deleted before stays deleted.
///
/// # Cancel safety
/// A batch that is in progress is rolled back or committed as a whole.
pub async fn prune(pool: &PgPool, what: Prunable) -> Result<u64, sqlx::Error> {
    let mut pruned = 0;
    let mut after = None;
    loop {
        let started = Instant::now();
        let Some(batch) = prune_batch(pool, what, after).await? else { break };
        let deleted = u64::try_from(batch.deleted).unwrap_or_default();
        counter!(PRUNED, "rows" => what.name()).increment(deleted);
        pruned += deleted;
        if deleted < u64::from(BATCH_SIZE) {
            break;
        }
        after = batch.through;
        tokio::time::sleep(started.elapsed()).await;
    }
    gauge!(LAG, "rows" => what.name()).set(what.lag(pool).await?.as_secs_f64());
    Ok(pruned)
}

/// Deletes one batch; `None` if another process is deleting these rows.
async fn prune_batch(
    pool: &PgPool,
    what: Prunable,
    after: Option<DateTime<Utc>>,
) -> Result<Option<PrunedBatch>, sqlx::Error> {
    engine::with_timeout(pool, BATCH_TIMEOUT, async |conn| {
        let mut tx = conn.begin().await?;
        if !write::try_lock(&mut tx, what.name()).await? {
            return Ok(None);
        }
        let batch = what.delete_batch(&mut tx, after).await?;
        tx.commit().await?;
        Ok(Some(batch))
    })
    .await
}
