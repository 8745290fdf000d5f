//! What the sessions behind the connections of a process have to be like, and what a connection pooler in between, such as
//! PgBouncer, may take from them.
//!
//! PostgreSQL gives each connection a session of its own, with the settings that the connection asked for at its start. A
//! pooler may break either promise:
//! - It may give the transactions of one connection to several sessions (PgBouncer: `pool_mode = transaction`). Then
//!   prepared statements, `listen`, session locks and settings end up in sessions of others. [`are_kept`] finds this out
//!   when a process starts, and the process refuses to.
//! - It may drop the settings (PgBouncer: `options` in `ignore_startup_parameters`), or hand a session on with what its last
//!   user left in it (an empty `server_reset_query`). [`SessionSettings::apply`] looks at each session of a pool, sets what
//!   is missing, and says so once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

/// What to do where [`are_kept`] says no.
pub(crate) const SESSIONS_ARE_SHARED: &str = "its connections go through a pooler that gives the transactions of one \
     connection to several sessions, as PgBouncer does with `pool_mode = transaction`. Set `pool_mode = session` for this \
     database, or connect to PostgreSQL itself (see \"Connection poolers\" in docs/operations.md)";

/// What to do where a pooler refuses the parameters of a connection.
pub(crate) const PARAMETER_IS_REFUSED: &str = "a pooler refuses what the connection asks for. Set \
     `ignore_startup_parameters = extra_float_digits,options` in PgBouncer (see \"Connection poolers\" in \
     docs/operations.md)";

/// How often the marks are looked at.
const ROUNDS: u32 = 8;

/// Whether each of two open connections has a session of its own, in which it finds what it has put there.
///
/// Each puts a mark into its session, and looks for it in transactions of its own. A pooler of transactions that is idle
/// gives both the same session, so that the second mark replaces the first; one that is busy sends them to and fro between
/// sessions, most of which have no mark. For a pooler to be overlooked, each of sixteen transactions would have to meet the
/// right session by chance.
///
/// # Errors
/// When a connection is lost.
pub(crate) async fn are_kept(
    first: &mut PgConnection,
    second: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    let marks = [Uuid::now_v7(), Uuid::now_v7()].map(|mark| mark.to_string());
    for (connection, mark) in [&mut *first, &mut *second].into_iter().zip(&marks) {
        // Not prepared, as a pooler of transactions may not know prepared statements.
        let set = format!("select set_config('sagaline.session', '{mark}', false)");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(connection).await?;
    }
    for _ in 0..ROUNDS {
        for (connection, mark) in [&mut *first, &mut *second].into_iter().zip(&marks) {
            let row = sqlx::raw_sql("select coalesce(current_setting('sagaline.session', true), '')");
            let found = row.fetch_one(connection).await?;
            if found.try_get::<&str, _>(0)? != mark {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The settings that each session of a pool has to have. Clones share what was said of them.
#[derive(Clone, Debug)]
pub(crate) struct SessionSettings {
    /// As the rows of a `values` list.
    wanted: String,
    were_missing: Arc<AtomicBool>,
    were_left: Arc<AtomicBool>,
}

impl SessionSettings {
    /// These settings, whose values are written as PostgreSQL shows them.
    pub(crate) fn new(settings: &[(&'static str, &'static str)]) -> Self {
        let rows: Vec<_> = settings.iter().map(|(name, value)| format!("('{name}', '{value}')")).collect();
        Self { wanted: rows.join(", "), were_missing: Arc::default(), were_left: Arc::default() }
    }

    /// Gives a session that was just opened what it lacks, and frees it from what another user of it has left. With no
    /// pooler in between it costs one round trip.
    ///
    /// # Errors
    /// When the session is lost.
    pub(crate) async fn apply(&self, session: &mut PgConnection) -> Result<(), sqlx::Error> {
        let wanted = &self.wanted;
        let look = format!(
            "select coalesce(string_agg(name, ', '), ''), exists (select from pg_prepared_statements)::text
             from (values {wanted}) wanted (name, value) where current_setting(name) <> value"
        );
        let row = sqlx::raw_sql(AssertSqlSafe(look)).fetch_one(&mut *session).await?;
        let (missing, is_used): (String, bool) =
            (row.try_get::<&str, _>(0)?.to_owned(), row.try_get::<&str, _>(1)? == "true");
        if is_used {
            if !self.were_left.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "a pooler hands on sessions with what their last user left in them; set `server_reset_query = DISCARD \
                     ALL` in PgBouncer (see \"Connection poolers\" in docs/operations.md)"
                );
            }
            sqlx::raw_sql("discard all").execute(&mut *session).await?;
        }
        if !missing.is_empty() && !self.were_missing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                settings = missing,
                "a pooler drops what connections ask for at their start (PgBouncer: `ignore_startup_parameters`); it is set \
                 in each session of the pool instead, but is missing where a connection is opened beside the pool, to \
                 extend leases, to listen for hints and to check health (see \"Connection poolers\" in docs/operations.md)"
            );
        }
        if is_used || !missing.is_empty() {
            let set = format!(
                "select set_config(name, value, false) from (values {wanted}) wanted (name, value)
                 where current_setting(name) <> value"
            );
            sqlx::raw_sql(AssertSqlSafe(set)).execute(session).await?;
        }
        Ok(())
    }
}
