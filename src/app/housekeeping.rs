//! Throws away what is kept for a while only.

use std::time::Duration;

use shop::idempotency;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// How often a process looks; any number of them may look at the same time.
const PERIOD: Duration = Duration::from_mins(10);
/// How many rows one statement deletes, so that none takes long.
const AT_ONCE: u32 = 1000;

/// Deletes answers to idempotency keys that are no longer kept, now and then until `quit`.
pub(crate) async fn housekeep(pool: &PgPool, quit: CancellationToken) {
    loop {
        // Spread, so that processes started together don't look together.
        let pause = PERIOD.mul_f64(0.5 + rand::random::<f64>());
        tokio::select! {
            () = quit.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        while !quit.is_cancelled() {
            match idempotency::purge(pool, AT_ONCE).await {
                Ok(deleted) if deleted == u64::from(AT_ONCE) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(error = %error, "old idempotency keys can't be deleted now; trying again later");
                    break;
                }
            }
        }
    }
}
