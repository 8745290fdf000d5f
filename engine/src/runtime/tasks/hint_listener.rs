//! Listens for hints from other processes: sagas that are due, signals that were stored, sagas that ended, and who waits
//! for ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::postgres::{PgListener, PgNotification, PgPoolOptions};
use uuid::Uuid;

use crate::{
    model::error_chain::ErrorChain,
    runtime::{core::Core, hints},
    store::{
        hints::{DUE, ENDED, SIGNALLED, WAITING},
        sessions::is_read_only,
    },
    support::{connection, jitter},
};

/// Listens until the engine shuts down. What is heard are hints; polls find the same. A process without feeds and
/// without callers that wait opens no connection for them.
pub(crate) async fn run(core: Arc<Core>) {
    while !core.stop.is_cancelled() {
        core.remote_ends.set_listening(false);
        let pause = match listen(&core).await {
            Ok(()) => Duration::from_millis(20),
            Err(error) => {
                tracing::debug!(error = %ErrorChain(&error), "can't listen for hints now; relying on the polls");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(jitter::jittered(pause)) => {}
        }
    }
}

/// Listens until the connection is lost.
async fn listen(core: &Core) -> Result<(), sqlx::Error> {
    let (feeds, waiters) = (&core.feeds.in_use, &core.waiters.in_use);
    tokio::select! {
        () = core.stop.cancelled() => return Ok(()),
        () = feeds.cancelled() => {}
        () = waiters.cancelled() => {}
    }
    let mut listener = connect(core).await?;
    core.hints.ask_who_waits();
    let (mut hears_due, mut hears_ended) = (false, false);
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return Ok(()),
            () = feeds.cancelled(), if !hears_due => {
                subscribe(core, &mut listener, SIGNALLED).await?;
                subscribe(core, &mut listener, DUE).await?;
                hears_due = true;
                // Notifications may have been missed.
                core.feeds.wake_all();
            }
            () = waiters.cancelled(), if !hears_ended => {
                subscribe(core, &mut listener, ENDED).await?;
                hears_ended = true;
                core.remote_ends.set_listening(true);
                core.waiters.ask_for_all();
            }
            hint = listener.try_recv() => match hint? {
                Some(hint) => hear(core, &hint),
                None => return Ok(()),
            }
        }
    }
}

/// Opens a connection beside the pool, which has all of its connections for other work.
async fn connect(core: &Core) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(core.settings.db_timeout())
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with((*core.pool.connect_options()).clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    // A lost connection ends `listen`, which knows what else was missed.
    listener.eager_reconnect(false);
    // No hint comes from a server on which nothing is written, and the connection to it may live for long.
    if is_read_only(&mut listener).await? {
        return Err(sqlx::Error::Protocol("the session is read-only".into()));
    }
    subscribe(core, &mut listener, WAITING).await?;
    Ok(listener)
}

async fn subscribe(core: &Core, listener: &mut PgListener, channel: &str) -> Result<(), sqlx::Error> {
    tokio::time::timeout(core.settings.db_timeout(), listener.listen(channel))
        .await
        .unwrap_or_else(|_| Err(connection::timed_out("no answer to LISTEN in time")))
}

fn hear(core: &Core, hint: &PgNotification) {
    let payload = hint.payload();
    match hint.channel() {
        DUE => core.feeds.wake(payload),
        SIGNALLED => core.nudges.add(payload.parse::<Uuid>().ok()),
        ENDED => {
            let was_awaited = core.waiters.tell(hints::decode_ended(payload));
            if was_awaited {
                core.remote_ends.told(Instant::now());
            }
        }
        WAITING if payload.is_empty() => {
            core.remote_ends.asked();
            core.waiters.wakeup.notify_one();
        }
        WAITING if payload != core.worker.to_string() => core.hints.others_wait(Instant::now()),
        _ => {}
    }
}
