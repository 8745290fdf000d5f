//! What keeps the engine's own tasks going: bounded waits for the database, and a restart after a panic.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio_util::sync::CancellationToken;

use crate::{engine::Core, support::metrics::PANICKED};

/// How long a task that panicked rests.
const REST: Duration = Duration::from_secs(1);

/// Runs a task to its end; should it panic, it is begun anew after a rest.
pub(crate) async fn supervised<F: Future<Output = ()>>(
    name: &str,
    stop: &CancellationToken,
    task: impl Fn() -> F,
) {
    let panicked = metrics::counter!(PANICKED, "task" => name.to_owned());
    // A counter that first appears as one has no rise to be seen.
    panicked.absolute(0);
    while AssertUnwindSafe(task()).catch_unwind().await.is_err() {
        panicked.increment(1);
        tracing::error!(task = name, "a task of the engine panicked; it is begun anew");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(REST) => {}
        }
    }
}

/// The error for an answer that did not come in time.
pub(crate) fn timed_out(what: &'static str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
}

/// Takes a connection for upkeep, which must not wait long.
pub(crate) async fn acquire(pool: &PgPool, limit: Duration) -> Result<PoolConnection<Postgres>, sqlx::Error> {
    tokio::time::timeout(limit, pool.acquire()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Awaits what a connection is used for. Without an answer in time it is taken for dead and dropped: handing it back
/// could wait on its socket for ever and keep its place in the pool.
pub(crate) async fn on_connection<T>(
    mut connection: PoolConnection<Postgres>,
    limit: Duration,
    work: impl AsyncFnOnce(&mut PoolConnection<Postgres>) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    if let Ok(result) = tokio::time::timeout(limit, work(&mut connection)).await {
        return result;
    }
    drop(connection.detach());
    Err(timed_out("the database gave no answer in time"))
}

/// Does something on a connection of a pool, and waits no longer than `limit` for the connection and as long again for
/// what is done. A connection that gave no answer in time is dropped.
///
/// # Errors
/// What the work gives, and when there was no connection or no answer in time; then nobody knows what the database did.
pub async fn with_timeout<T>(
    pool: &PgPool,
    limit: Duration,
    work: impl AsyncFnOnce(&mut PoolConnection<Postgres>) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let connection = acquire(pool, limit).await?;
    on_connection(connection, limit, work).await
}

impl Core {
    /// Spawns a task of the engine that is begun anew should it panic.
    pub(crate) fn supervise<F>(self: &Arc<Self>, name: &'static str, task: fn(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let core = self.clone();
        self.tasks.spawn(async move {
            let stop = core.stop.clone();
            supervised(name, &stop, || task(core.clone())).await;
        });
    }

    /// Extends the leases of these claims now.
    pub(crate) async fn extend_leases(&self, ids: &[uuid::Uuid]) -> Result<(), sqlx::Error> {
        let limit = self.settings.db_timeout();
        let connection = acquire(&self.pool, limit).await?;
        let asked = std::time::Instant::now();
        let extended = on_connection(connection, limit, async |conn| {
            crate::store::claims::extend(conn, ids, self.worker, self.lease_ms()).await
        })
        .await?;
        self.leases.extended(&extended, asked);
        Ok(())
    }

    /// Ends a server process of ours that goes on with a statement nobody waits for, and so keeps its locks.
    pub(crate) async fn terminate(&self, backend: i32) -> Result<(), sqlx::Error> {
        let limit = self.settings.db_timeout();
        let connection = acquire(&self.pool, limit).await?;
        on_connection(connection, limit, async |conn| crate::store::commits::terminate(conn, backend).await)
            .await
    }
}
