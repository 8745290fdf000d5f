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
    /// Whether it waits for a lock itself.
    waits: Option<bool>,
    /// Whether it has this session's application name, and so may be one of an engine.
    is_alike: Option<bool>,
}

impl LockHolder {
    /// Whether it may well be gone in a moment: a transaction of an engine takes no longer, and it waits for no lock for
    /// long.
    pub(crate) fn may_end_soon(&self) -> bool {
        let is_young = self.transaction_secs.is_none_or(|secs| secs < 2);
        self.waits == Some(true) || (is_young && self.is_alike == Some(true))
    }
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
                 extract(epoch from clock_timestamp() - xact_start)::bigint as transaction_secs, \
                 wait_event_type = 'Lock' as waits, \
                 application_name = current_setting('application_name') as is_alike \
             from unnest(pg_blocking_pids($1)) as b (pid) left join pg_stat_activity a using (pid) \
             order by a.wait_event_type is not distinct from 'Lock', a.xact_start limit 1",
        )
        .bind(waiting)
        .fetch_optional(&mut **conn)
        .await
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_ends_soon_that_waits_itself_or_may_be_a_young_transaction_of_an_engine() {
        let held = |waits, is_alike, secs| LockHolder {
            pid: 7,
            name: None,
            state: None,
            transaction_secs: Some(secs),
            waits: Some(waits),
            is_alike: Some(is_alike),
        };
        assert!(held(true, false, 600).may_end_soon());
        assert!(held(false, true, 0).may_end_soon());
        assert!(!held(false, true, 2).may_end_soon());
        assert!(!held(false, false, 0).may_end_soon());
    }
}
