//! Keeps this process's claims: extends leases before they end, gives claims back, listens for work elsewhere.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::postgres::PgListener;

use crate::{engine::Inner, store};

/// Extends leases and flushes releases until the engine stops.
pub(crate) async fn keep(engine: Arc<Inner>) {
    let third = engine.settings.lease / 3;
    let listener = engine.tasks.spawn(listen(engine.clone()));
    while !engine.stop.is_cancelled() {
        tokio::select! {
            () = engine.stop.cancelled() => break,
            () = tokio::time::sleep(third / 2) => {}
            () = engine.keeper.notified() => {}
        }
        if engine.is_dead() {
            break;
        }
        engine.flush_releases().await;
        extend(&engine, third).await;
    }
    listener.abort();
}

async fn extend(engine: &Inner, age: Duration) {
    let ids = engine.holds.aged(age);
    let asked = Instant::now();
    if ids.is_empty() {
        return;
    }
    let extended = async {
        let mut conn = engine.pool.acquire().await?;
        store::claims::extend(&mut conn, &ids, engine.worker, engine.lease_ms()).await
    };
    match extended.await {
        Ok(count) => {
            // Rows that were locked or lost are passed over here too; the next round, or the fence, sees to them.
            engine.holds.extended(&ids, asked);
            tracing::trace!(held = ids.len(), count, "extended leases");
        }
        Err(error) => tracing::debug!(error = %error, "can't extend leases now; trying again"),
    }
}

/// Wakes feeds when a process elsewhere says that there is work. Only a hint: the poll stands behind.
async fn listen(engine: Arc<Inner>) {
    loop {
        if let Err(error) = listen_once(&engine).await {
            tracing::debug!(error = %error, "can't listen for hints now; the poll goes on");
        }
        tokio::select! {
            () = engine.stop.cancelled() => return,
            () = tokio::time::sleep(crate::clock::jittered(Duration::from_secs(1))) => {}
        }
    }
}

async fn listen_once(engine: &Inner) -> Result<(), sqlx::Error> {
    // Without a feed nobody needs hints, and an API process saves a connection.
    while engine.feeds.open_queues().is_empty() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut listener = PgListener::connect_with(&engine.pool).await?;
    listener.listen("engine_due").await?;
    loop {
        tokio::select! {
            () = engine.stop.cancelled() => return Ok(()),
            hint = listener.try_recv() => match hint? {
                Some(hint) => engine.feeds.wake(hint.payload()),
                // The connection was lost and with it perhaps hints.
                None => engine.feeds.wake_all(),
            }
        }
    }
}
