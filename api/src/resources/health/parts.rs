//! Asks each part how it is, each with its own time-out.

use std::time::Instant;

use sqlx::{Connection, PgConnection};

use super::body::{Connections, DatabaseHealth, Health, HealthParts, HealthState, MailHealth, QueueHealth};
use crate::state::{ApiState, MailState};

/// Work that has been due for longer than this is late.
const LATE_MS: i64 = 60_000;

pub(super) async fn ask(state: &ApiState) -> Health {
    let database = database(state).await;
    let queue = match database.state {
        HealthState::Up | HealthState::Degraded | HealthState::Draining => queue(state).await,
        HealthState::Down | HealthState::Unknown => unknown("the database does not answer"),
    };
    let mail = mail(state.mail());
    let status = match (database.state, queue.state, mail.state) {
        (HealthState::Down | HealthState::Unknown, _, _) => HealthState::Down,
        (HealthState::Up, HealthState::Up, HealthState::Up) => HealthState::Up,
        (HealthState::Up | HealthState::Degraded | HealthState::Draining, _, _) => HealthState::Degraded,
    };
    Health { status, parts: HealthParts { database, queue, mail } }
}

/// Asks over a connection of its own: the pool's may all be in use, which is another trouble than a database that is
/// away. The connection is closed with the future, so a time-out leaks nothing.
async fn database(state: &ApiState) -> DatabaseHealth {
    let pool = state.pool();
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
    let connections = Connections {
        idle,
        used: pool.size().saturating_sub(idle),
        limit: pool.options().get_max_connections(),
    };
    let (options, limit) = (pool.connect_options(), state.limits().health_timeout);
    let began = Instant::now();
    let asked = tokio::time::timeout(limit, async {
        let mut connection = PgConnection::connect_with(&options).await?;
        connection.ping().await?;
        connection.close().await
    })
    .await;
    let latency_ms = u64::try_from(began.elapsed().as_millis()).ok();
    match asked {
        Ok(Ok(())) if state.gate().is_exhausted() => DatabaseHealth {
            state: HealthState::Degraded,
            detail: Some("all connections of this process are in use".into()),
            latency_ms,
            connections,
        },
        Ok(Ok(())) => DatabaseHealth { state: HealthState::Up, detail: None, latency_ms, connections },
        Ok(Err(error)) => away(&described(&error), connections),
        Err(_) => away(&format!("no answer within {} s", limit.as_secs_f32()), connections),
    }
}

fn away(detail: &str, connections: Connections) -> DatabaseHealth {
    DatabaseHealth { state: HealthState::Down, detail: Some(detail.into()), latency_ms: None, connections }
}

/// Says what is wrong without naming the server, its user or its database: health is open to anybody.
fn described(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => format!("can't connect: {}", error.kind()),
        sqlx::Error::Database(error) => format!("it refuses: SQLSTATE {}", error.code().unwrap_or_default()),
        _ => "can't connect".into(),
    }
}

async fn queue(state: &ApiState) -> QueueHealth {
    let engine = state.engine().clone();
    // In a task of its own, so that the time-out never drops a query half-way.
    let asked = tokio::spawn(async move { engine.queue_depths().await });
    let depths = match tokio::time::timeout(state.limits().health_timeout, asked).await {
        Ok(Ok(Ok(depths))) => depths,
        Ok(Ok(Err(_)) | Err(_)) => return unknown("it could not be read"),
        Err(_) => return unknown("no answer in time"),
    };
    let oldest_due_ms = depths.iter().map(|depth| depth.oldest_due_ms).max().unwrap_or_default();
    let late = oldest_due_ms > LATE_MS;
    QueueHealth {
        state: if late { HealthState::Degraded } else { HealthState::Up },
        detail: late.then(|| "work has been due for more than a minute: are workers running?".into()),
        due: Some(depths.iter().map(|depth| depth.due).sum()),
        waiting: Some(depths.iter().map(|depth| depth.waiting).sum()),
        leased: Some(depths.iter().map(|depth| depth.leased).sum()),
        oldest_due_ms: Some(oldest_due_ms),
    }
}

fn unknown(detail: &str) -> QueueHealth {
    QueueHealth {
        state: HealthState::Unknown,
        detail: Some(detail.into()),
        due: None,
        waiting: None,
        leased: None,
        oldest_due_ms: None,
    }
}

fn mail(state: MailState) -> MailHealth {
    let (state, detail) = match state {
        MailState::Up => (HealthState::Up, None),
        MailState::Probing => (HealthState::Degraded, Some("it was down and is being tried again")),
        MailState::Down => (HealthState::Down, Some("it fails; mails wait and lose no attempt")),
    };
    MailHealth { state, detail: detail.map(Into::into) }
}
