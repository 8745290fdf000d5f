//! How many blocks of a table statements have read.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use crate::support::{Database, WAIT_TIMEOUT};

/// The blocks of a table, such as `shop.stock`, and of its indexes that were read so far by connections that are closed.
pub(super) async fn blocks_read(database: &Database, table: &str) -> i64 {
    let mut conn = PgConnection::connect(&database.url()).await.unwrap();
    let only_these = async {
        let others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                          and backend_type = 'client backend' and state is distinct from 'idle in transaction'";
        while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut conn).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, only_these).await.expect("the other connections are closed");
    sqlx::query_scalar(
        "select heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit
         from pg_statio_user_tables where relid = $1::regclass",
    )
    .bind(table)
    .fetch_one(&mut conn)
    .await
    .unwrap()
}
