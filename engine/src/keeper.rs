//! Keeps this process's claims: extends leases before they end, gives claims back, listens for work elsewhere.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection, postgres::PgListener};

use crate::{engine::Inner, store, upkeep};

/// Extends leases and flushes releases until the engine stops.
pub(crate) async fn keep(engine: Arc<Inner>) {
    let third = engine.settings.lease / 3;
    let mut line = Line::default();
    while !engine.stop.is_cancelled() {
        tokio::select! {
            () = engine.stop.cancelled() => break,
            () = tokio::time::sleep(third / 2) => {}
            () = engine.keeper.notified() => {}
        }
        if engine.is_dead() {
            break;
        }
        extend(&engine, &mut line, third).await;
        engine.flush_releases().await;
    }
}

async fn extend(engine: &Inner, line: &mut Line, age: Duration) {
    let ids = engine.holds.aged(age);
    if ids.is_empty() {
        return;
    }
    let asked = Instant::now();
    match line.extend(engine, &ids).await {
        Ok(extended) => {
            // Rows that were locked or lost are passed over here; the next round, or the fence, sees to them.
            engine.holds.extended(&extended, asked);
            tracing::trace!(held = ids.len(), extended = extended.len(), "extended leases");
        }
        Err(error) => tracing::debug!(error = %error, "can't extend leases now; trying again"),
    }
}

/// A connection of the keeper's own, so that no lease ends because steps have taken all others.
#[derive(Default)]
struct Line {
    connection: Option<PgConnection>,
}

impl Line {
    async fn extend(&mut self, engine: &Inner, ids: &[uuid::Uuid]) -> Result<Vec<uuid::Uuid>, sqlx::Error> {
        let work = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => PgConnection::connect_with(&engine.pool.connect_options()).await?,
            };
            let extended =
                store::claims::extend(&mut connection, ids, engine.worker, engine.lease_ms()).await?;
            // Only a connection that answered is kept.
            self.connection = Some(connection);
            Ok(extended)
        };
        let limit = engine.settings.upkeep();
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(upkeep::late("no answer in time")))
    }
}

/// Wakes feeds when a process elsewhere says that there is work. Only a hint: the poll stands behind.
pub(crate) async fn listen(engine: Arc<Inner>) {
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
        tokio::select! {
            () = engine.stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
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
