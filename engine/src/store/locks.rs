//! Statements about locks.

use std::time::Duration;

use sqlx::PgPool;
use sqlx_macros::FromRow;

use crate::support::connection;

/// The session that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct LockHolder {
    pub(crate) pid: i32,
    name: Option<String>,
    state: Option<String>,
    transaction_secs: Option<i64>,
}

impl std::fmt::Display for LockHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "session {}", self.pid)?;
        if let Some(name) = self.name.as_ref().filter(|name| !name.is_empty()) {
            write!(f, " of `{name}`")?;
        }
        if let Some(state) = &self.state {
            write!(f, ", {state}")?;
        }
        if let Some(secs) = self.transaction_secs {
            write!(f, ", its transaction began {secs} s ago")?;
        }
        Ok(())
    }
}

/// Asks which session holds the lock that a server process waits for. Of several, it is the one that waits for nobody
/// and whose transaction is the oldest. `None` when it does not wait any more.
pub(crate) async fn holder(
    pool: &PgPool,
    waiting: i32,
    timeout: Duration,
) -> Result<Option<LockHolder>, sqlx::Error> {
    connection::with_timeout(pool, timeout, async |conn| {
        sqlx::query_as(
            "select pid, coalesce(nullif(application_name, ''), usename::text) as name, state, \
                 extract(epoch from clock_timestamp() - xact_start)::bigint as transaction_secs \
             from unnest(pg_blocking_pids($1)) as b (pid) left join pg_stat_activity a using (pid) \
             order by a.wait_event_type is not distinct from 'Lock', a.xact_start limit 1",
        )
        .bind(waiting)
        .fetch_optional(&mut **conn)
        .await
    })
    .await
}
