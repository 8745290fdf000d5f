//! A pool of connections to the mail server.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::connection::Connection;

/// How long to wait for the server's reply when a connection is closed with `QUIT`.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The idle connections of one mailer. The pool hands out the most recently used one first, so that surplus connections
/// stay idle and time out.
pub(super) struct ConnectionPool {
    max_idle: usize,
    idle_timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<(Instant, Connection)>,
    /// Whether a task is running that closes connections after the idle time-out.
    is_watched: bool,
}

impl ConnectionPool {
    pub(super) fn new(max_idle: u32, idle_timeout: Duration) -> Self {
        Self {
            max_idle: usize::try_from(max_idle).unwrap_or(usize::MAX),
            idle_timeout,
            state: Mutex::default(),
        }
    }

    pub(super) fn take(&self) -> Option<Connection> {
        self.state.lock().idle.pop().map(|(_, connection)| connection)
    }

    /// Returns a connection to the pool, or closes it if the pool is full.
    pub(super) fn put(pool: &Arc<Self>, connection: Connection) {
        let mut state = pool.state.lock();
        if state.idle.len() < pool.max_idle {
            state.idle.push((Instant::now(), connection));
        }
        if !std::mem::replace(&mut state.is_watched, true) {
            // The task ends when the pool is empty or dropped.
            tokio::spawn(watch(Arc::downgrade(pool), pool.idle_timeout));
        }
    }

    /// Closes all idle connections.
    pub(super) fn clear(&self) {
        let dropped = std::mem::take(&mut self.state.lock().idle);
        drop(dropped);
    }

    /// Removes the connections that have been idle for too long; `None` if the pool is empty, and then the task has to
    /// end.
    fn expired(&self) -> Option<Vec<Connection>> {
        let mut state = self.state.lock();
        if state.idle.is_empty() {
            state.is_watched = false;
            return None;
        }
        // The connections that have been idle longest come first.
        let young = state.idle.iter().position(|(since, _)| since.elapsed() < self.idle_timeout);
        let count = young.unwrap_or(state.idle.len());
        Some(state.idle.drain(..count).map(|(_, connection)| connection).collect())
    }
}

async fn watch(pool: Weak<ConnectionPool>, idle_timeout: Duration) {
    loop {
        tokio::time::sleep(idle_timeout / 2).await;
        let Some(expired) = pool.upgrade().and_then(|pool| pool.expired()) else { return };
        for mut connection in expired {
            let _ = tokio::time::timeout(QUIT_TIMEOUT, connection.quit()).await;
        }
    }
}
