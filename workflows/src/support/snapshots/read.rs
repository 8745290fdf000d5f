//! Reads how long vacuum has been held back.

use sqlx::PgPool;
use sqlx_macros::FromRow;

/// The oldest snapshots that keep vacuum from removing dead rows in this database.
#[derive(Clone, Copy, Debug, PartialEq, FromRow)]
pub struct OldestSnapshots {
    /// For how long the oldest transaction of this database has been open that has a snapshot or has written something,
    /// in seconds; 0 if there is none. `None` if another role has such a transaction, and this one may not see when it
    /// began.
    pub seconds: Option<f64>,
    /// How many transactions ago the oldest snapshot was taken that a standby or a replication slot keeps; 0 if none
    /// does. The server does not know when that was.
    pub replication_transactions: i64,
}

/// Reads the oldest snapshots.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn oldest(pool: &PgPool) -> Result<OldestSnapshots, sqlx::Error> {
    // A vacuum holds back no other one. Whether a session may be seen is decided as `pg_stat_activity` decides it.
    sqlx::query_as(
        "select case when coalesce(bool_or(hidden), false) then null
                     else coalesce(extract(epoch from greatest(now() - min(began_at), '0')), 0)::float8 end as seconds,
                (select coalesce(max(age(xmin)), 0)::bigint
                 from (select xmin from pg_replication_slots union all select backend_xmin from pg_stat_replication) r
                ) as replication_transactions
         from (
             select xact_start as began_at,
                    xact_start is null and not pg_has_role('pg_read_all_stats', 'usage')
                        and not pg_has_role(usesysid, 'usage') as hidden
             from pg_stat_activity a
             where datname = current_database() and pid <> pg_backend_pid()
               and (backend_xid is not null or backend_xmin is not null)
               and not exists (select from pg_stat_progress_vacuum v where v.pid = a.pid)
             union all
             select prepared, false from pg_prepared_xacts where database = current_database()
         ) held",
    )
    .fetch_one(pool)
    .await
}
