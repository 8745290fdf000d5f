//! A migration that builds or drops one index concurrently, beside the writes of running processes.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions, Connection, PgConnection,
    migrate::{MigrateError, Migration},
    postgres::PgConnectOptions,
};
use sqlx_macros::FromRow;

use crate::model::error_chain::ErrorChain;

/// When the progress of a build is first logged, and how often after that.
const FIRST_REPORT: Duration = Duration::from_secs(1);
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The index that a migration builds or drops.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IndexChange {
    pub(super) index: String,
    /// The table that the index is built on; `None` if it is dropped.
    table: Option<String>,
}

impl IndexChange {
    /// Reads which index a migration builds or drops.
    ///
    /// # Errors
    /// When it is anything else. Several statements that are sent together are one transaction to PostgreSQL, and a
    /// statement of another kind could not be repeated after an interruption.
    pub(super) fn of(migration: &Migration) -> Result<Self, MigrateError> {
        parse(migration.sql.as_str()).ok_or_else(|| {
            MigrateError::Source(
                format!(
                    "migration {} begins with `-- no-transaction`, so it should be one statement, `create [unique] index \
                     concurrently [if not exists] <name> on <schema>.<table> …` or `drop index concurrently if exists \
                     <schema>.<name>`",
                    migration.version
                )
                .into(),
            )
        })
    }

    /// Lifts the time-outs of the session, drops what an earlier try left of the index, and tells whether an earlier try
    /// has built it and was interrupted before it could record that.
    ///
    /// The change waits for every transaction that is older, and it locks nobody out meanwhile.
    pub(super) async fn prepare(&self, conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
        sqlx::query(
            "select set_config('lock_timeout', '0', false), set_config('statement_timeout', '0', false)",
        )
        .execute(&mut *conn)
        .await?;
        let Some((name, is_valid)) = self.built(conn).await? else { return Ok(false) };
        if !is_valid {
            tracing::info!(index = %self.index, "an earlier try to build this index did not end; dropping what is left");
            sqlx::query(sqlx::AssertSqlSafe(format!("drop index concurrently if exists {name}")))
                .execute(conn)
                .await?;
        }
        Ok(is_valid)
    }

    /// The quoted name of the index that is to be built, and whether it is valid, if it exists.
    async fn built(&self, conn: &mut PgConnection) -> Result<Option<(String, bool)>, sqlx::Error> {
        sqlx::query_as(
            "select format('%I.%I', n.nspname, c.relname), i.indisvalid
             from pg_index i
             join pg_class c on c.oid = i.indexrelid
             join pg_namespace n on n.oid = c.relnamespace
             where i.indrelid = to_regclass($1) and c.relname = $2",
        )
        .bind(&self.table)
        .bind(&self.index)
        .fetch_optional(conn)
        .await
    }

    /// Logs the progress of the change, which the session with this pid makes, until it is dropped.
    pub(super) async fn log_progress(&self, pid: i32, options: &PgConnectOptions) -> Infallible {
        let started = Instant::now();
        let mut pause = FIRST_REPORT;
        loop {
            tokio::time::sleep(pause).await;
            pause = REPORT_INTERVAL;
            match read_progress(options, pid).await {
                Ok(progress) => progress.log(&self.index, started.elapsed().as_secs()),
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), index = %self.index, "the progress of a change can't be read");
                }
            }
        }
    }
}

/// The pid of the session in the server.
pub(super) async fn backend_pid(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("select pg_backend_pid()").fetch_one(conn).await
}

/// Sets the time-outs of the session back to those of its connection.
pub(super) async fn restore_time_outs(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    for name in ["reset lock_timeout", "reset statement_timeout"] {
        sqlx::query(name).execute(&mut *conn).await?;
    }
    Ok(())
}

/// How far a build is, and which session it waits for.
#[derive(FromRow)]
struct Progress {
    phase: Option<String>,
    blocks_done: Option<i64>,
    blocks_total: Option<i64>,
    blocking_pid: Option<i32>,
    blocking_name: Option<String>,
    blocking_for_s: Option<f64>,
}

impl Progress {
    fn log(&self, index: &str, seconds: u64) {
        let phase = self.phase.as_deref().unwrap_or("preparing");
        if let Some(pid) = self.blocking_pid {
            tracing::info!(
                "changing the index {index} for {seconds} s: {phase}; it waits for a transaction of pid {pid} ({}), \
                 which is {:.0} s old",
                self.blocking_name.as_deref().unwrap_or_default(),
                self.blocking_for_s.unwrap_or_default(),
            );
        } else {
            tracing::info!(
                "changing the index {index} for {seconds} s: {phase}, {} of {} blocks",
                self.blocks_done.unwrap_or_default(),
                self.blocks_total.unwrap_or_default(),
            );
        }
    }
}

async fn read_progress(options: &PgConnectOptions, pid: i32) -> Result<Progress, sqlx::Error> {
    let mut conn = options.connect().await?;
    let progress = sqlx::query_as(
        "select p.phase, p.blocks_done, p.blocks_total, b.pid as blocking_pid, b.application_name as blocking_name,
                extract(epoch from clock_timestamp() - b.xact_start)::float8 as blocking_for_s
         from (values ($1)) builder (pid)
         left join pg_stat_progress_create_index p on p.pid = builder.pid
         left join pg_stat_activity b on b.pid = any (pg_blocking_pids(builder.pid))
         order by b.xact_start limit 1",
    )
    .bind(pid)
    .fetch_one(&mut conn)
    .await?;
    // Closed at once: an open session would be one more that the build might wait for.
    conn.close().await?;
    Ok(progress)
}

/// Reads `create [unique] index concurrently [if not exists] <index> on <schema>.<table> …`, or
/// `drop index concurrently if exists <schema>.<index>`.
fn parse(sql: &str) -> Option<IndexChange> {
    let code: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let code = code.join(" ").to_lowercase();
    let statement = code.trim().trim_end_matches(';');
    if statement.contains(';') {
        return None;
    }
    let words: Vec<&str> = statement.split_whitespace().filter(|word| *word != "unique").collect();
    match words[..] {
        ["drop", "index", "concurrently", "if", "exists", name] => {
            let (_, index) = name.split_once('.')?;
            Some(IndexChange { index: index.into(), table: None })
        }
        ["create", "index", "concurrently", "if", "not", "exists", index, "on", table, ..]
        | ["create", "index", "concurrently", index, "on", table, ..] => {
            let table = table.split('(').next().filter(|table| table.contains('.'))?;
            Some(IndexChange { index: index.into(), table: Some(table.into()) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_and_its_table_are_read_from_the_statement() {
        let sql = "-- no-transaction\n-- Why; with a comment.\ncreate unique index concurrently if not exists saga_root\n\
                   on engine.saga (root_id) where root_id is not null; -- end\n";
        let built = |index: &str| IndexChange { index: index.into(), table: Some("engine.saga".into()) };
        assert_eq!(parse(sql), Some(built("saga_root")));
        assert_eq!(parse("create index concurrently a on engine.saga(root_id)"), Some(built("a")));
        let dropped = IndexChange { index: "saga_due".into(), table: None };
        assert_eq!(parse("drop index concurrently if exists engine.saga_due;"), Some(dropped));
    }

    #[test]
    fn anything_but_one_change_that_can_be_repeated_is_refused() {
        for sql in [
            "create index if not exists a on s.t (c)",
            "create index concurrently if not exists a on t (c)",
            "create index concurrently if not exists a on s.t (c); comment on index s.a is 'b'",
            "drop index concurrently s.a",
            "drop index if exists s.a",
            "update s.t set c = 1",
            "",
        ] {
            assert_eq!(parse(sql), None, "{sql}");
        }
    }
}
