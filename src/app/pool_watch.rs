//! Measures how long it takes to get a database connection, by acquiring one at intervals: the pool itself has no such
//! metric.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::telemetry::{POOL_FAILURES, POOL_WAIT};

const INTERVAL: Duration = Duration::from_secs(1);

/// Samples the wait until `quit`. An acquisition in progress is not cancelled, because the pool would lose the
/// connection; it ends when the pool closes.
pub(crate) async fn watch_pool(pool: PgPool, quit: CancellationToken) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while quit.run_until_cancelled(tick.tick()).await.is_some() {
        let started = Instant::now();
        match pool.acquire().await {
            Ok(connection) => {
                metrics::histogram!(POOL_WAIT).record(started.elapsed().as_secs_f64());
                drop(connection);
            }
            Err(sqlx::Error::PoolClosed) => return,
            Err(_) => metrics::counter!(POOL_FAILURES).increment(1),
        }
    }
}
