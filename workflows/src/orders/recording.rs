//! Records the orders that stay confirmed, so that a list of them need not look at those that are long delivered. The
//! database's function takes those that are older than ten minutes; its trigger records what is confirmed late.

use std::time::{Duration, Instant};

use sqlx::{PgConnection, PgPool};
use sqlx_macros::FromRow;

/// How many orders a batch looks at; more if that many were accepted at one time.
const BATCH_SIZE: i32 = 1000;
/// The time limit of one batch.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How many times as long as a batch the pause after it is, as for deletions.
const PAUSE: u32 = 4;

#[derive(FromRow)]
struct Batch {
    looked_at: i64,
    recorded: i64,
}

/// Records the confirmed orders that have become old enough since the last time, and returns how many. Ends early if
/// another process records them now. It pauses after each batch for several times as long as the batch took.
///
/// # Errors
/// When the database refuses or can't be reached. What was recorded before stays.
///
/// # Cancel safety
/// A batch that is in progress is rolled back or committed as a whole.
pub async fn record_confirmed(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let mut recorded = 0;
    loop {
        let started = Instant::now();
        let batch = engine::with_timeout(pool, BATCH_TIMEOUT, async |conn| record_batch(conn).await).await?;
        recorded += u64::try_from(batch.recorded).unwrap_or_default();
        if batch.looked_at < i64::from(BATCH_SIZE) {
            return Ok(recorded);
        }
        tokio::time::sleep(started.elapsed() * PAUSE).await;
    }
}

async fn record_batch(conn: &mut PgConnection) -> Result<Batch, sqlx::Error> {
    sqlx::query_as("select looked_at, recorded from shop.record_confirmed_orders($1)")
        .bind(BATCH_SIZE)
        .fetch_one(conn)
        .await
}
