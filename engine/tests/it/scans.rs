//! What claims read: only what became due lately, whatever has ended and whoever holds a snapshot.

use std::{str::FromStr, time::Duration};

use engine::{Engine, Performed, Status};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    claims::next,
    fixtures::{self, PLAIN, TestEngine, TestInput},
};

use crate::support::WAIT_TIMEOUT;

/// More dead entries than a claim may read, of sagas that waited an hour ago and of sagas that were leased then.
const ENDED: i64 = 5000;

/// Inserts sagas that were due, or whose lease ended, over the last hour and a minute ago, and then ends them.
async fn end_many(pool: &PgPool) {
    let saga = "insert into engine.saga (id, definition, graph_hash, queue, status, step, direction, input, due_at, \
         lease_until, lease_owner) \
         select gen_random_uuid(), 'plain-saga', 'g1:0', 'default', 'running', 'pack', 'action', '{}', ";
    let ages = "now() - interval '1 minute' - n * interval '700 ms'";
    for columns in [format!("{ages}, null, null"), format!("null, {ages}, gen_random_uuid()")] {
        let sql = format!("{saga} {columns} from generate_series(1, {ENDED}) n");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(pool).await.unwrap();
    }
    sqlx::query(
        "update engine.saga set status = 'completed', due_at = null, lease_until = null, lease_owner = null",
    )
    .execute(pool)
    .await
    .unwrap();
}

/// How many entries of the indexes for claims were read, by sessions that have ended.
async fn entries_read(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "select sum(pg_stat_get_tuples_returned(indexrelid))::bigint from pg_stat_user_indexes \
         where indexrelname in ('saga_waiting', 'saga_leased')",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_claim_reads_no_saga_that_has_ended_while_a_snapshot_is_held() {
    let (database, pool) = fixtures::database().await;
    let mut snapshot = pool.begin().await.unwrap();
    sqlx::query("set transaction isolation level repeatable read").execute(&mut *snapshot).await.unwrap();
    sqlx::query("select count(*) from engine.saga").execute(&mut *snapshot).await.unwrap();

    let options = PgConnectOptions::from_str(&database.url()).unwrap().application_name("claiming");
    let claiming = PgPoolOptions::new().connect_with(options).await.unwrap();
    let builder = Engine::builder(claiming.clone())
        .register(fixtures::plain_saga())
        .poll(Duration::from_millis(20))
        .sweep(Duration::from_hours(1));
    let test = TestEngine::build(builder);
    let run = async || {
        let saga = PLAIN.with(&TestInput::default());
        let (_, ending) = test.engine.start_and_wait(saga, WAIT_TIMEOUT).await.unwrap();
        assert_eq!(ending.unwrap().status, Status::Completed);
    };
    // The first claim looks at everything. It is over once a saga has ended that only a claim can have found.
    let caller = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let first = caller.start(PLAIN.with(&TestInput::default())).await.unwrap();
    test.engine.wait(first.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    caller.shutdown().await;
    end_many(&pool).await;
    for _ in 0..50 {
        run().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    test.close().await;
    // A session reports what it read at its end at the latest.
    claiming.close().await;
    let ended = "select not exists (select from pg_stat_activity \
         where datname = current_database() and application_name = 'claiming')";
    fixtures::holds(&pool, ended).await;
    let read = entries_read(&pool).await;
    assert!(read < ENDED, "{read} entries were read");
    snapshot.rollback().await.unwrap();
}

#[tokio::test]
async fn a_saga_that_was_committed_long_after_its_due_time_is_found() {
    let (_database, pool) = fixtures::database().await;
    let caller = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let builder = Engine::builder(pool.clone())
        .register(fixtures::plain_saga())
        .poll(Duration::from_millis(20))
        .sweep(Duration::from_millis(100));
    let test = TestEngine::build(builder);
    let saga = PLAIN.with(&TestInput::default());
    let (_, ending) = test.engine.start_and_wait(saga, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);

    let mut late = pool.begin().await.unwrap();
    let started = caller.start_in(&mut late, vec![PLAIN.with(&TestInput::default())]).await.unwrap();
    let saga_id = started[0].as_ref().unwrap().saga_id;
    // As if the transaction had lasted for an hour: claims look back for half a minute at most.
    sqlx::query("update engine.saga set due_at = now() - interval '1 hour' where id = $1")
        .bind(saga_id.0)
        .execute(&mut *late)
        .await
        .unwrap();
    late.commit().await.unwrap();
    let ending = test.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    test.close().await;
    caller.shutdown().await;
}

#[tokio::test]
async fn a_backlog_is_claimed_in_the_order_in_which_it_became_due() {
    let (_database, pool) = fixtures::database().await;
    let caller = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let mut expected = Vec::new();
    for age in 1..=20 {
        let saga_id = caller.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
        sqlx::query("update engine.saga set due_at = now() - $2 * interval '1 minute' where id = $1")
            .bind(saga_id.0)
            .bind(f64::from(age))
            .execute(&pool)
            .await
            .unwrap();
        expected.insert(0, saga_id);
    }
    // Two at a time, so that each claim leaves a backlog to the next.
    let mut feed = caller.feed("default", 2);
    let mut seen = Vec::new();
    for _ in 0..10 {
        let pair = [next(&mut feed).await, next(&mut feed).await];
        for job in pair {
            seen.push(job.saga_id());
            // It ends elsewhere, so that its slot is free and the claim after this one continues with the backlog.
            sqlx::query(
                "update engine.saga set status = 'completed', lease_until = null, lease_owner = null, epoch = epoch + 1 \
                 where id = $1",
            )
            .bind(job.saga_id().0)
            .execute(&pool)
            .await
            .unwrap();
            caller.commit(job, Performed::in_batch()).await;
        }
    }
    // The two of one claim are in no order.
    for pair in seen.chunks_mut(2).zip(expected.chunks_mut(2)) {
        pair.0.sort_unstable();
        pair.1.sort_unstable();
        assert_eq!(pair.0, pair.1);
    }
    feed.close();
    caller.shutdown().await;
}
