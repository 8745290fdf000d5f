//! Keeps sessions that refuse writes out of a connection pool.
//!
//! During a failover a new session may reach a server that is read-only: a standby, or a database whose operators have
//! made it so. Such a session would stay in its pool for its whole life, and every write on it would fail although the
//! server that its address leads to has long been writable again.
//!
//! So a pool asks each session when it is opened. Once one was read-only, it also asks each session that was opened by
//! then, whenever it is acquired, and replaces a read-only one as soon as a new session can write. Until then it uses it
//! as it is, because it can still read. A pool that never met a read-only session asks nothing but new ones.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use crate::model::error_chain::ErrorChain;
use crate::store::sessions::is_read_only;

/// A pool dates a session from a moment after it was asked, so sessions that seem this much younger are asked as well.
const DATING_ERROR: Duration = Duration::from_secs(1);

/// The checks of one pool, to be called in its `after_connect` and its `before_acquire`. Clones share their state.
#[derive(Clone, Debug)]
pub struct WritableSessions {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: PgConnectOptions,
    /// When a new session was last read-only.
    read_only_at: Mutex<Option<Instant>>,
    /// Held while a new session is tried, so that all who ask meanwhile share the next try.
    last_try: tokio::sync::Mutex<Option<Try>>,
}

/// A new session that was opened to find out whether it can write.
#[derive(Clone, Copy, Debug)]
struct Try {
    began: Instant,
    read_only: bool,
}

impl WritableSessions {
    /// The checks of a pool whose connections have these options.
    pub fn new(options: PgConnectOptions) -> Self {
        let shared =
            Shared { options, read_only_at: Mutex::default(), last_try: tokio::sync::Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Notes whether a session that has just been opened is read-only.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn opened(&self, session: &mut PgConnection) -> Result<(), sqlx::Error> {
        if is_read_only(session).await? {
            self.shared.note_read_only();
        }
        Ok(())
    }

    /// Whether an idle session of this age may be used; otherwise the pool has to open another.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn may_use(&self, session: &mut PgConnection, age: Duration) -> Result<bool, sqlx::Error> {
        if !self.shared.is_doubtful(age) || !is_read_only(session).await? {
            return Ok(true);
        }
        Ok(self.shared.is_server_read_only().await)
    }
}

impl Shared {
    fn note_read_only(&self) {
        *self.read_only_at.lock() = Some(Instant::now());
    }

    /// Whether a session of this age was opened before the server was last known to be read-only.
    fn is_doubtful(&self, age: Duration) -> bool {
        let read_only_at = *self.read_only_at.lock();
        read_only_at.is_some_and(|at| at.elapsed() <= age + DATING_ERROR)
    }

    /// Whether a session that is opened now is read-only. If none can be opened, this is not known: then it is better to
    /// close a session that is read-only, which makes room for another.
    async fn is_server_read_only(&self) -> bool {
        let asked = Instant::now();
        let mut last_try = self.last_try.lock().await;
        if let Some(last) = *last_try
            && last.began >= asked
        {
            return last.read_only;
        }
        let began = Instant::now();
        let read_only = self.try_session().await.unwrap_or_else(|error| {
            tracing::debug!(error = %ErrorChain(&error), "no session could be opened to find out whether the database is still read-only");
            false
        });
        *last_try = Some(Try { began, read_only });
        read_only
    }

    async fn try_session(&self) -> Result<bool, sqlx::Error> {
        let mut session = PgConnection::connect_with(&self.options).await?;
        let read_only = is_read_only(&mut session).await?;
        if read_only {
            self.note_read_only();
        }
        session.close().await?;
        Ok(read_only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sessions_from_before_the_last_read_only_one_are_doubtful() {
        let shared = WritableSessions::new(PgConnectOptions::new_without_pgpass()).shared;
        assert!(!shared.is_doubtful(Duration::from_hours(1)), "none was read-only");
        let two_seconds_ago = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        *shared.read_only_at.lock() = Some(two_seconds_ago);
        assert!(!shared.is_doubtful(Duration::ZERO));
        assert!(shared.is_doubtful(Duration::from_secs(3)));
    }
}
