//! Connections that wait for the next mail.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use lettre::transport::smtp::client::AsyncSmtpConnection;
use parking_lot::Mutex;

/// How long the server is waited for when a connection is closed in order.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The connections of one mailer that no mail is on. The one that was used last is taken first, so that no more stay
/// open than are needed.
pub(crate) struct ConnectionPool {
    max_idle: usize,
    idle_timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<(Instant, AsyncSmtpConnection)>,
    /// Whether a task sees to those that are idle for too long.
    is_watched: bool,
}

impl ConnectionPool {
    pub(crate) fn new(max_idle: u32, idle_timeout: Duration) -> Self {
        Self {
            max_idle: usize::try_from(max_idle).unwrap_or(usize::MAX),
            idle_timeout,
            state: Mutex::default(),
        }
    }

    pub(crate) fn take(&self) -> Option<AsyncSmtpConnection> {
        self.state.lock().idle.pop().map(|(_, connection)| connection)
    }

    /// Keeps a connection; one too many is closed.
    pub(crate) fn put(pool: &Arc<Self>, connection: AsyncSmtpConnection) {
        let mut state = pool.state.lock();
        if state.idle.len() < pool.max_idle {
            state.idle.push((Instant::now(), connection));
        }
        if !std::mem::replace(&mut state.is_watched, true) {
            // It ends with the connections, or with the mailer.
            tokio::spawn(watch(Arc::downgrade(pool), pool.idle_timeout));
        }
    }

    /// Drops all of them.
    pub(crate) fn clear(&self) {
        let dropped = std::mem::take(&mut self.state.lock().idle);
        drop(dropped);
    }

    /// Takes out those that were idle for too long; `None` when none is left, and nobody watches from then on.
    fn expired(&self) -> Option<Vec<AsyncSmtpConnection>> {
        let mut state = self.state.lock();
        if state.idle.is_empty() {
            state.is_watched = false;
            return None;
        }
        // The oldest come first.
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
