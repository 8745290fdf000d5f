//! Events of transactions that commit in any order, read by a reader that remembers only the last id.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use shop::events::{self, LowWaterMarks, Sequenced};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tokio::{sync::Barrier, task::JoinSet};

use super::{append, keys, page, sequence};
use crate::support::{Database, WAIT_TIMEOUT};

const KEYS: i64 = 4;
const WRITERS: usize = 6;
const TRANSACTIONS: usize = 40;

#[tokio::test]
async fn a_reader_that_remembers_the_last_id_misses_no_event_that_is_committed_late() {
    let database = Database::fresh().await;
    let pool = database.pool().await;
    let (mut first, mut second) = (pool.begin().await.unwrap(), pool.begin().await.unwrap());
    let early = append(&mut first, "early", "{}").await;
    let late = append(&mut second, "late", "{}").await;
    assert!(early < late, "the test is about numbers that are committed in another order");

    second.commit().await.unwrap();
    sequence(&pool).await;
    assert_eq!(keys(&pool, 0).await, [(1, "late".into())]);

    // A transaction that is open for long does not block others, and its own event appears when it commits.
    sequence(&pool).await;
    assert_eq!(keys(&pool, 1).await, []);
    first.commit().await.unwrap();
    sequence(&pool).await;
    assert_eq!(keys(&pool, 1).await, [(2, "early".into())]);
}

#[tokio::test]
async fn events_of_a_key_are_in_commit_order_even_if_their_transactions_began_otherwise() {
    let database = Database::fresh().await;
    let pool = database.pool().await;
    pool.execute("create table thing (name text primary key); insert into thing values ('a'), ('b')")
        .await
        .unwrap();
    let lock = "select name from thing where name = $1 for update";
    // It has its transaction id and its number in the outbox before the other begins.
    let mut old = pool.begin().await.unwrap();
    sqlx::query(lock).bind("b").execute(&mut *old).await.unwrap();
    append(&mut old, "b", "1").await;

    let mut young = pool.begin().await.unwrap();
    sqlx::query(lock).bind("a").execute(&mut *young).await.unwrap();
    append(&mut young, "a", "1").await;
    young.commit().await.unwrap();

    sqlx::query(lock).bind("a").execute(&mut *old).await.unwrap();
    append(&mut old, "a", "2").await;
    sequence(&pool).await;
    old.commit().await.unwrap();
    sequence(&pool).await;
    let published: Vec<_> = events::read(&pool, 0, page(10)).await.unwrap().events;
    let published: Vec<_> =
        published.iter().map(|event| (event.event_id, event.key.as_str(), event.payload())).collect();
    assert_eq!(published, [(1, "a", "1"), (2, "b", "1"), (3, "a", "2")]);
}

#[tokio::test]
async fn processes_do_not_wait_while_another_one_sequences() {
    let database = Database::fresh().await;
    let pool = database.pool().await;
    let marks = LowWaterMarks::default();
    let mut at_it = pool.begin().await.unwrap();
    at_it.execute("select from shop.event_log for no key update").await.unwrap();
    append(&mut pool.acquire().await.unwrap(), "a", "{}").await;
    assert_eq!(events::sequence(&pool, &marks, 10).await.unwrap(), Sequenced::Busy);
    at_it.rollback().await.unwrap();
    assert_eq!(events::sequence(&pool, &marks, 10).await.unwrap(), Sequenced::Moved(1));
    assert_eq!(events::sequence(&pool, &marks, 10).await.unwrap(), Sequenced::Moved(0));
}

/// Locks some keys in order, increments each and appends its value as an event. Some transactions are rolled back.
async fn change(conn: &mut PgConnection, nth: usize) {
    let mut tx = conn.begin().await.unwrap();
    let first = rand::random_range(0..KEYS);
    let last = rand::random_range(first..KEYS);
    for key in first..=last {
        let count: i64 =
            sqlx::query_scalar("update counter set count = count + 1 where key = $1 returning count")
                .bind(key)
                .fetch_one(&mut *tx)
                .await
                .unwrap();
        append(&mut tx, &key.to_string(), &count.to_string()).await;
        tokio::task::yield_now().await;
    }
    if nth.is_multiple_of(7) { tx.rollback().await.unwrap() } else { tx.commit().await.unwrap() }
}

/// Follows the event log by the last id until a marker.
async fn follow(pool: PgPool) -> Vec<(String, i64)> {
    let (mut last, mut read, begun) = (0, Vec::new(), Instant::now());
    loop {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "the last event did not arrive");
        for event in events::read(&pool, last, page(50)).await.unwrap().events {
            assert_eq!(event.event_id, last + 1, "ids have no gaps and become visible in their order");
            last = event.event_id;
            if event.key == "end" {
                return read;
            }
            read.push((event.key.clone(), event.payload().parse().unwrap()));
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn many_writers_and_sequencers_lose_nothing_and_keep_each_key_in_order() {
    let database = Database::fresh().await;
    let pool = database.pool().await;
    pool.execute("create table counter (key bigint primary key, count bigint not null)").await.unwrap();
    sqlx::query("insert into counter select key, 0 from generate_series(0, $1 - 1) key")
        .bind(KEYS)
        .execute(&pool)
        .await
        .unwrap();
    let readers: Vec<_> = (0..2).map(|_| tokio::spawn(follow(pool.clone()))).collect();
    let mut numbering = JoinSet::new();
    for _ in 0..3 {
        let pool = pool.clone();
        // They advance whenever they can, and the whole outbox is looked at only once.
        let marks = LowWaterMarks::with_intervals(Duration::ZERO, Duration::from_hours(1));
        numbering.spawn(async move {
            loop {
                events::sequence(&pool, &marks, rand::random_range(1..20)).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
    }
    // It has the lowest number and is committed last.
    let mut straggler = PgConnection::connect(&database.url()).await.unwrap();
    let mut late = straggler.begin().await.unwrap();
    append(&mut late, "straggler", "1").await;

    let begin = Arc::new(Barrier::new(WRITERS));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (url, begin) = (database.url(), begin.clone());
        writers.spawn(async move {
            let mut conn = PgConnection::connect(&url).await.unwrap();
            begin.wait().await;
            for nth in 1..=TRANSACTIONS {
                change(&mut conn, nth).await;
            }
        });
    }
    writers.join_all().await;
    while sqlx::query_scalar::<_, i64>("select count(*) from shop.outbox").fetch_one(&pool).await.unwrap() > 0
    {
        tokio::task::yield_now().await;
    }
    late.commit().await.unwrap();
    append(&mut straggler, "end", "{}").await;

    let counts: Vec<(i64, i64)> =
        sqlx::query_as("select key, count from counter order by key").fetch_all(&pool).await.unwrap();
    for reader in readers {
        let mut by_key = BTreeMap::<String, Vec<i64>>::new();
        for (key, count) in reader.await.unwrap() {
            by_key.entry(key).or_default().push(count);
        }
        assert_eq!(by_key.remove("straggler"), Some(vec![1]));
        for (key, count) in &counts {
            let published = by_key.remove(&key.to_string()).unwrap_or_default();
            assert_eq!(published, (1..=*count).collect::<Vec<_>>(), "key {key}");
        }
        assert!(by_key.is_empty(), "{by_key:?}");
    }
    numbering.shutdown().await;
}

#[tokio::test]
async fn a_page_ends_at_its_limit_of_events_or_bytes() {
    let database = Database::fresh().await;
    let pool = database.pool().await;
    let mut conn = pool.acquire().await.unwrap();
    for _ in 0..5 {
        append(&mut conn, "k", "\"12345678\"").await;
    }
    sequence(&pool).await;
    let read = async |after, events, bytes| {
        let page = events::read(&pool, after, events::PageSize { events, bytes }).await.unwrap();
        (page.events.iter().map(|event| event.event_id).collect::<Vec<_>>(), page.is_full)
    };
    assert_eq!(read(0, 2, 1_000).await, (vec![1, 2], true));
    assert_eq!(
        read(0, 100, 11).await,
        (vec![1, 2], true),
        "the event that brings it to the limit is the last"
    );
    assert_eq!(read(2, 100, 1).await, (vec![3], true), "one event is read, however large it is");
    assert_eq!(read(0, 100, 1_000).await, (vec![1, 2, 3, 4, 5], false));
    assert_eq!(read(5, 100, 1_000).await, (vec![], false));
}
