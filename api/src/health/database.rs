//! Checks whether the database takes writes, over a new session and, if none can be had, over those of the process.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, PgPool};

use super::{
    body::{DatabaseConnections, DatabaseHealth, HealthState},
    sources::HealthSources,
};

/// How long the process's own connections may take to answer if a new one gave no answer in time.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);

const EXHAUSTED: &str = "all connections of this process are in use";
const READ_ONLY: &str = "it is read-only: reads are served, and writes are refused";

/// What a session said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    TakesWrites,
    IsReadOnly,
}

/// Checks the database over a connection of its own: the pool's may all be in use, which is not the same as a database
/// that can't be reached. If that fails, a pool that answers still serves, for instance when others have used up the
/// server's connections. The connection is closed with the future, so a time-out leaks nothing.
pub(super) async fn check(sources: &HealthSources) -> DatabaseHealth {
    let pool = &sources.pool;
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
    let connections = DatabaseConnections {
        idle,
        used: pool.size().saturating_sub(idle),
        limit: pool.options().get_max_connections(),
    };
    let began = Instant::now();
    let opened = open_session(pool, sources.timeout).await;
    let latency_ms = if opened.is_ok() { u64::try_from(began.elapsed().as_millis()).ok() } else { None };
    let (state, detail) = match opened {
        Ok(Session::TakesWrites) if sources.gate.is_exhausted() => {
            (HealthState::Degraded, Some(EXHAUSTED.to_owned()))
        }
        Ok(Session::TakesWrites) => (HealthState::Up, None),
        Ok(Session::IsReadOnly) => (HealthState::Degraded, Some(READ_ONLY.to_owned())),
        Err(reason) => {
            let limit = sources.timeout.saturating_sub(began.elapsed()).max(SHORTEST_WAIT);
            without_new_session(ask_pool(pool, limit).await, &reason)
        }
    };
    DatabaseHealth { state, detail, latency_ms, connections }
}

/// The state of a database that takes no new connection, from what a connection of the pool said.
fn without_new_session(pooled: Option<Session>, reason: &str) -> (HealthState, Option<String>) {
    let takes_none = "it takes no more connections, but those of this process work";
    match pooled {
        Some(Session::TakesWrites) => (HealthState::Degraded, Some(format!("{takes_none} ({reason})"))),
        Some(Session::IsReadOnly) => (HealthState::Degraded, Some(READ_ONLY.to_owned())),
        None => (HealthState::Down, Some(reason.to_owned())),
    }
}

/// Opens a session and asks it; the reason if it can't be had.
async fn open_session(pool: &PgPool, limit: Duration) -> Result<Session, String> {
    let options = pool.connect_options();
    let asked = tokio::time::timeout(limit, async {
        let mut connection = PgConnection::connect_with(&options).await?;
        let session = ask(&mut connection).await?;
        connection.close().await?;
        Ok(session)
    });
    match asked.await {
        Ok(answer) => answer.map_err(|error| describe(&error)),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs_f32())),
    }
}

/// Asks a connection of the pool; `None` if it has none, or gets no answer in time.
async fn ask_pool(pool: &PgPool, limit: Duration) -> Option<Session> {
    if pool.size() == 0 {
        return None;
    }
    let pool = pool.clone();
    // In a task of its own, so that the time-out never drops a query half-way.
    let asked = tokio::spawn(async move { ask(&mut *pool.acquire().await?).await });
    tokio::time::timeout(limit, asked).await.ok()?.ok()?.ok()
}

async fn ask(connection: &mut PgConnection) -> Result<Session, sqlx::Error> {
    let read_only = engine::is_read_only(connection).await?;
    Ok(if read_only { Session::IsReadOnly } else { Session::TakesWrites })
}

/// Describes an error without naming the server, its user or its database: health is open to everyone.
fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => format!("can't connect: {}", error.kind()),
        sqlx::Error::Database(error) => format!("it refuses: SQLSTATE {}", error.code().unwrap_or_default()),
        _ => "can't connect".into(),
    }
}
