//! The outbox and the event log while a snapshot is held that is older than what was deleted from them.

use std::time::Duration;

use shop::events::{self, LogRange, LowWaterMarks, Sequenced};
use sqlx::{Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};

use super::{append, keys};
use crate::support::{Database, WAIT_TIMEOUT, as_owner};

const NEVER: Duration = Duration::from_hours(1);
const MOVED: u32 = 20_000;
/// More than any statement here has to read, and far less than [`MOVED`].
const FEW: i64 = 100;

/// Marks that advance whenever they can. The whole outbox is looked at only once, so nothing but the marks finds events.
fn eager_marks() -> LowWaterMarks {
    LowWaterMarks::with_intervals(Duration::ZERO, NEVER)
}

/// A connection with a snapshot that keeps vacuum from removing what is deleted from now on, as `pg_dump` has.
async fn hold_snapshot(database: &Database) -> PgConnection {
    let mut conn = PgConnection::connect(&database.url()).await.unwrap();
    conn.execute("begin isolation level repeatable read; select count(*) from shop.outbox").await.unwrap();
    conn
}

/// One connection only, so that its counters have everything that was read.
async fn one_connection(database: &Database) -> PgPool {
    let options = PgPoolOptions::new().max_connections(1).acquire_timeout(WAIT_TIMEOUT);
    let pool = options.connect(&database.url()).await.unwrap();
    pool.execute("set enable_seqscan = off").await.unwrap();
    pool
}

/// The index entries of a table that were read so far, those of dead rows included.
async fn entries_read(pool: &PgPool, table: &str) -> i64 {
    pool.execute("select pg_stat_force_next_flush()").await.unwrap();
    sqlx::query_scalar(
        "select sum(idx_tup_read)::bigint from pg_stat_user_indexes where schemaname = 'shop' and relname = $1",
    )
    .bind(table)
    .fetch_one(pool)
    .await
    .unwrap()
}

/// Repeats rounds until the mark has passed all that was moved: a round that sees who may have drawn ids, one that sees
/// that they have ended, and one that reads from there. Other databases of the server may be ahead of what is on disk,
/// and then it takes more.
async fn settle(pool: &PgPool, marks: &LowWaterMarks) {
    let settled = async {
        for round in 1.. {
            // A commit that is on disk, and all that was logged before.
            pool.execute(
                "create temporary table if not exists logged (n int); insert into logged values (1)",
            )
            .await
            .unwrap();
            let before = entries_read(pool, "outbox").await;
            events::sequence(pool, marks, MOVED).await.unwrap();
            if round >= 3 && entries_read(pool, "outbox").await - before < FEW {
                return;
            }
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, settled).await.expect("the mark passes what was moved");
}

/// Appends many events and moves all of them.
async fn move_many(pool: &PgPool, marks: &LowWaterMarks) {
    sqlx::query(
        "insert into shop.outbox (routing_key, key, payload) select 'order.created', 'k', '{}' from generate_series(1, $1)",
    )
    .bind(i64::from(MOVED))
    .execute(pool)
    .await
    .unwrap();
    assert_eq!(events::sequence(pool, marks, MOVED).await.unwrap(), Sequenced::Moved(MOVED.into()));
    settle(pool, marks).await;
}

#[tokio::test]
async fn a_round_and_the_lag_do_not_read_the_events_that_were_moved_since_the_snapshot() {
    let database = Database::durable().await;
    let pool = one_connection(&database).await;
    let (marks, snapshot) = (eager_marks(), hold_snapshot(&database).await);
    move_many(&pool, &marks).await;

    let before = entries_read(&pool, "outbox").await;
    assert_eq!(events::sequence(&pool, &marks, 10).await.unwrap(), Sequenced::Moved(0));
    assert_eq!(events::lag(&pool, &marks).await.unwrap().waiting_events, 0);
    append(&mut pool.acquire().await.unwrap(), "k", "{}").await;
    assert_eq!(events::lag(&pool, &marks).await.unwrap().waiting_events, 1);
    assert_eq!(events::sequence(&pool, &marks, 10).await.unwrap(), Sequenced::Moved(1));
    let read = entries_read(&pool, "outbox").await - before;
    assert!(read < FEW, "{read} index entries were read");

    // What a process without marks reads.
    let before = entries_read(&pool, "outbox").await;
    events::sequence(&pool, &LowWaterMarks::default(), 10).await.unwrap();
    let read = entries_read(&pool, "outbox").await - before;
    assert!(read > i64::from(MOVED), "the snapshot does not keep the moved events: {read} entries were read");
    snapshot.close().await.unwrap();
}

#[tokio::test]
async fn the_front_of_the_event_log_is_found_without_reading_the_events_that_were_pruned_since_the_snapshot()
{
    let database = Database::durable().await;
    let pool = one_connection(&database).await;
    let (marks, snapshot) = (eager_marks(), hold_snapshot(&database).await);
    move_many(&pool, &marks).await;
    for kept in [10, 0] {
        append(&mut pool.acquire().await.unwrap(), "k", "{}").await;
        events::sequence(&pool, &marks, 1).await.unwrap();
        events::prune(&pool, &marks, Duration::ZERO, MOVED - kept).await.unwrap();
        events::log_range(&pool, &marks).await.unwrap();
    }
    let expected = events::log_range(&pool, &LowWaterMarks::default()).await.unwrap();
    assert_eq!(expected.pruned_through, i64::from(MOVED) + 2);

    let before = entries_read(&pool, "event").await;
    assert_eq!(events::log_range(&pool, &marks).await.unwrap(), expected);
    assert_eq!(events::prune(&pool, &marks, Duration::ZERO, 10).await.unwrap(), 0);
    assert_eq!(events::lag(&pool, &marks).await.unwrap().kept_events, 0);
    let read = entries_read(&pool, "event").await - before;
    assert!(read < FEW, "{read} index entries were read");
    snapshot.close().await.unwrap();
}

#[tokio::test]
async fn an_event_that_is_committed_late_is_moved_before_younger_events_of_its_key() {
    let database = Database::durable().await;
    let (pool, marks) = (database.pool().await, eager_marks());
    pool.execute("create table thing (name text primary key); insert into thing values ('a')").await.unwrap();
    let lock = "select name from thing where name = 'a' for update";
    let mut early = pool.begin().await.unwrap();
    early.execute(lock).await.unwrap();
    append(&mut early, "a", "1").await;
    for _ in 0..5 {
        append(&mut pool.acquire().await.unwrap(), "b", "{}").await;
        settle(&pool, &marks).await;
    }
    early.commit().await.unwrap();
    let mut late = pool.begin().await.unwrap();
    late.execute(lock).await.unwrap();
    append(&mut late, "a", "2").await;
    late.commit().await.unwrap();

    assert_eq!(events::sequence(&pool, &marks, 10).await.unwrap(), Sequenced::Moved(2));
    let published = events::read(&pool, 5, super::page(10)).await.unwrap().events;
    let published: Vec<_> = published.iter().map(|event| (event.key.as_str(), event.payload())).collect();
    assert_eq!(published, [("a", "1"), ("a", "2")]);
}

#[tokio::test]
async fn an_event_below_the_mark_is_found_when_the_whole_outbox_is_looked_at() {
    let database = Database::durable().await;
    let pool = one_connection(&database).await;
    let (marks, snapshot) = (eager_marks(), hold_snapshot(&database).await);
    move_many(&pool, &marks).await;
    // No transaction of the shop does that.
    pool.execute(
        "insert into shop.outbox (event_id, routing_key, key, payload) overriding system value
         values (1, 'order.created', 'c', '{}')",
    )
    .await
    .unwrap();
    assert_eq!(events::sequence(&pool, &marks, 10).await.unwrap(), Sequenced::Moved(0));
    let looking = LowWaterMarks::with_intervals(Duration::ZERO, Duration::ZERO);
    assert_eq!(events::sequence(&pool, &looking, 10).await.unwrap(), Sequenced::Moved(1));
    assert_eq!(keys(&pool, MOVED.into()).await, [(i64::from(MOVED) + 1, "c".into())]);
    snapshot.close().await.unwrap();
}

#[tokio::test]
async fn marks_are_given_up_when_a_database_was_restored_to_an_earlier_state() {
    let database = Database::durable().await;
    let (pool, marks) = (database.pool().await, eager_marks());
    for _ in 0..5 {
        append(&mut pool.acquire().await.unwrap(), "k", "{}").await;
    }
    settle(&pool, &marks).await;
    assert_eq!(events::prune(&pool, &marks, Duration::ZERO, 10).await.unwrap(), 5);
    events::log_range(&pool, &marks).await.unwrap();

    let restore =
        "alter sequence shop.outbox_event_id_seq restart with 3; update shop.event_log set last_event_id = 2";
    as_owner(&pool, restore).await.unwrap();
    append(&mut pool.acquire().await.unwrap(), "k", "{}").await;
    assert_eq!(events::sequence(&pool, &marks, 10).await.unwrap(), Sequenced::Moved(1));
    assert_eq!(
        events::log_range(&pool, &marks).await.unwrap(),
        LogRange { pruned_through: 2, last_event_id: 3 }
    );
}
