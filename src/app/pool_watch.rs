//! Measures how long a database connection takes to be had, by asking for one now and then as everybody does: the pool
//! itself tells nobody.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::telemetry::{POOL_FAILURES, POOL_WAIT};

const PERIOD: Duration = Duration::from_secs(1);

/// Samples the wait until `quit`. What is asked for then is not given up half-way (the pool would lose it); it ends with
/// the pool.
pub(crate) async fn watch_pool(pool: PgPool, quit: CancellationToken) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while quit.run_until_cancelled(tick.tick()).await.is_some() {
        let asked = Instant::now();
        match pool.acquire().await {
            Ok(connection) => {
                metrics::histogram!(POOL_WAIT).record(asked.elapsed().as_secs_f64());
                drop(connection);
            }
            Err(sqlx::Error::PoolClosed) => return,
            Err(_) => metrics::counter!(POOL_FAILURES).increment(1),
        }
    }
}
