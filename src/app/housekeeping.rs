//! Periodically deletes expired responses to idempotency keys.

use std::time::Duration;

use shop::idempotency;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// How often a process deletes; any number of processes may do so at the same time.
const INTERVAL: Duration = Duration::from_mins(10);
/// How many rows one statement deletes, so that it ends soon.
const BATCH_SIZE: u32 = 1000;

/// Deletes expired responses to idempotency keys at intervals until `quit`.
pub(crate) async fn housekeep(pool: &PgPool, quit: CancellationToken) {
    loop {
        // With jitter, so that processes that start together don't delete together.
        let pause = INTERVAL.mul_f64(0.5 + rand::random::<f64>());
        tokio::select! {
            () = quit.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        while !quit.is_cancelled() {
            match idempotency::purge(pool, BATCH_SIZE).await {
                Ok(deleted) if deleted == u64::from(BATCH_SIZE) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(error = %error, "old idempotency keys can't be deleted now; trying again later");
                    break;
                }
            }
        }
    }
}
