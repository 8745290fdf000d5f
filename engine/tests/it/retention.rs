//! Sagas that have ended are deleted when their time is over, with all that is theirs, and nothing else is.

use std::{sync::atomic::Ordering, time::Duration};

use engine::{
    DeadJobFilter, DeadJobResolution, DiscardMode, Engine, EngineBuilder, Pruned, Retention, Saga, SagaEnd,
    SagaId, SagaName, Status,
};
use sqlx::PgPool;
use uuid::Uuid;

use super::{
    fixtures::{self, File, PLAIN, Pack, Seal, StepFault, TestEngine, TestInput},
    step_failures::{ALL, StepFailures, dead_letter_existing, open, sql},
};
use crate::support::{Database, WAIT_TIMEOUT, as_owner};

pub(super) const DAY: Duration = Duration::from_hours(24);
/// Another definition with the same steps.
const OTHER: SagaName<TestInput> = SagaName::new("other-saga");

/// An engine with a worker that keeps sagas so.
pub(super) async fn keeping(retention: Retention) -> (Database, PgPool, TestEngine) {
    let (database, pool) = fixtures::database().await;
    let other = Saga::named(OTHER).then(Pack).pivot(Seal).then(File).build().unwrap();
    let builder = Engine::builder(pool.clone()).register(fixtures::plain_saga()).register(other);
    (database, pool, TestEngine::build(builder.retention(retention)))
}

/// The id of a saga that was started so many days ago.
pub(super) fn id_of(days_ago: u32) -> SagaId {
    let ms = u128::from(days_ago) * DAY.as_millis();
    SagaId(Uuid::from_u128(Uuid::now_v7().as_u128() - (ms << 80)))
}

/// Says that a saga was started, and ended, so many days ago.
pub(super) async fn moved_back(pool: &PgPool, saga: SagaId, started: i32, ended: i32) {
    sqlx::query(
        "update engine.saga set created_at = now() - make_interval(days => $2), \
         ended_at = case when ended_at is not null then now() - make_interval(days => $3) end where id = $1",
    )
    .bind(saga.0)
    .bind(started)
    .bind(ended)
    .execute(pool)
    .await
    .unwrap();
}

/// Runs a saga that was started 40 days ago and ended so many days ago.
pub(super) async fn ended(
    test: &TestEngine,
    name: SagaName<TestInput>,
    input: &TestInput,
    days: i32,
) -> SagaId {
    let id = id_of(40);
    let (started, _) = test.engine.start_and_wait(name.with(input).id(id), WAIT_TIMEOUT).await.unwrap();
    moved_back(test.engine.pool(), started.saga_id, 40, days).await;
    id
}

/// Deletes until there is no more to delete, and returns how many sagas.
pub(super) async fn prune(engine: &Engine) -> u64 {
    let mut deleted = 0;
    loop {
        let batch = engine.prune_sagas(2).await.unwrap();
        deleted += batch.deleted;
        if !batch.more {
            return deleted;
        }
    }
}

async fn rows(pool: &PgPool, table: &str, column: &str, saga: SagaId) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "select count(*) from engine.{table} where {column} = $1"
    )))
    .bind(saga.0)
    .fetch_one(pool)
    .await
    .unwrap()
}

fn failing() -> TestInput {
    TestInput::with("seal", StepFault::Fails)
}

#[tokio::test]
async fn a_saga_over_its_time_is_deleted_with_all_that_is_its_and_a_younger_one_stays() {
    let (_database, pool, test) = keeping(Retention::of(30 * DAY)).await;
    let old = ended(&test, PLAIN, &TestInput::default(), 31).await;
    let young = ended(&test, PLAIN, &TestInput::default(), 29).await;
    let new = test.engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap().0;
    sql(
        &pool,
        "insert into engine.inbox (saga_id, kind, name, key, payload) select id, 'signal', 'n', 'k', '1' from engine.saga;
         insert into engine.progress (saga_id, step, direction, attempt, epoch, done)
             select id, 'send', 'action', 1, 1, 1 from engine.saga;
         insert into engine.audit (actor, action, saga_id, reason) select 'ann', 'cancel', id, 'no' from engine.saga",
    )
    .await;
    assert!(test.engine.saga_prune_lag().await.unwrap() > 9 * DAY, "one of 40 days has not been looked at");

    assert_eq!(prune(&test.engine).await, 1);

    for (table, column) in
        [("saga", "id"), ("history_run", "saga_id"), ("inbox", "saga_id"), ("progress", "saga_id")]
    {
        assert_eq!(rows(&pool, table, column, old).await, 0, "{table}");
        for kept in [young, new.saga_id] {
            assert!(rows(&pool, table, column, kept).await > 0, "{table}");
        }
    }
    assert_eq!(rows(&pool, "audit", "saga_id", old).await, 1, "what people did is kept for longer");
    assert!(test.engine.saga_prune_lag().await.unwrap() < DAY / 24);
    let through = "select started_through < now() - interval '39 days' from engine.pruned where definition = 'plain-saga'";
    fixtures::holds(&pool, through).await;
    assert_eq!(prune(&test.engine).await, 0);
    test.close().await;
}

#[tokio::test]
async fn nothing_is_deleted_unless_a_time_is_set() {
    let (_database, _pool, test) = keeping(Retention::default()).await;
    let old = ended(&test, PLAIN, &TestInput::default(), 40).await;
    assert_eq!(prune(&test.engine).await, 0);
    assert!(test.engine.saga_prune_lag().await.unwrap().is_zero());
    assert!(test.engine.saga(old).await.unwrap().is_some());
    test.close().await;
}

#[tokio::test]
async fn each_definition_and_each_end_has_its_own_time() {
    let retention = Retention::of(30 * DAY)
        .keep(PLAIN.name(), SagaEnd::Completed, 2 * DAY)
        .keep(PLAIN.name(), SagaEnd::Compensated, None)
        .keep(OTHER.name(), SagaEnd::Compensated, 5 * DAY);
    let (_database, _pool, test) = keeping(retention).await;
    let mut kept = Vec::new();
    let mut over = Vec::new();
    for (name, input, days, is_over) in [
        (PLAIN, TestInput::default(), 3, true),
        (PLAIN, TestInput::default(), 1, false),
        (PLAIN, failing(), 39, false),
        (OTHER, TestInput::default(), 29, false),
        (OTHER, TestInput::default(), 31, true),
        (OTHER, failing(), 6, true),
        (OTHER, failing(), 4, false),
    ] {
        let id = ended(&test, name, &input, days).await;
        if is_over { over.push(id) } else { kept.push(id) }
    }
    assert_eq!(prune(&test.engine).await, over.len() as u64);
    for id in kept {
        assert!(test.engine.saga(id).await.unwrap().is_some(), "{id} is kept");
    }
    for id in over {
        assert!(test.engine.saga(id).await.unwrap().is_none(), "{id} is over its time");
    }
    test.close().await;
}

#[tokio::test]
async fn a_dead_saga_is_kept_until_it_is_given_up_and_its_dead_job_outlives_it() {
    let keep = |builder: EngineBuilder| builder.retention(Retention::of(30 * DAY));
    let failures = StepFailures::all();
    failures.at_pivot.store(false, Ordering::Release);
    let (_database, pool, test) = open(failures, keep).await;
    let saga = PLAIN.with(&failing()).id(id_of(400));
    let (started, ending) = test.engine.start_and_wait(saga, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let id = started.saga_id;
    moved_back(&pool, id, 400, 400).await;
    sql(&pool, "update engine.dead_job set died_at = now() - interval '400 days'").await;
    assert_eq!(prune(&test.engine).await, 0, "no clock deletes what waits for an operator");

    let job =
        test.engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items.remove(0).dead_job_id;
    test.engine.discard_dead_job(job, DiscardMode::Force, "ann", "by hand").await.unwrap();
    sql(&pool, "update engine.pruning set round_began_at = now() - interval '1 day'").await;
    assert_eq!(prune(&test.engine).await, 0, "it was given up just now");

    moved_back(&pool, id, 400, 31).await;
    sql(&pool, "update engine.pruning set round_began_at = now() - interval '1 day'").await;
    assert_eq!(prune(&test.engine).await, 1);
    assert!(test.engine.dead_job(job).await.unwrap().is_none());
    let archived = test.engine.archived_dead_job(job).await.unwrap().expect("it has a time of its own");
    assert_eq!(
        (archived.dead_job.saga_id, archived.dead_job.resolution.map(DeadJobResolution::name)),
        (id, Some("discarded"))
    );
    assert_eq!(test.engine.expire_dead_jobs(10).await.unwrap(), 0);
    test.close().await;
}

#[tokio::test]
async fn what_was_passed_over_is_looked_at_again_a_day_later_and_so_are_ids_that_are_no_times() {
    let (_database, pool, test) = keeping(Retention::of(30 * DAY)).await;
    let late = ended(&test, PLAIN, &TestInput::default(), 29).await;
    let foreign = SagaId(Uuid::from_u128(u128::MAX - 7));
    let saga = PLAIN.with(&TestInput::default()).id(foreign);
    test.engine.start_and_wait(saga, WAIT_TIMEOUT).await.unwrap();
    moved_back(&pool, foreign, 40, 40).await;
    assert_eq!(prune(&test.engine).await, 0);
    moved_back(&pool, late, 40, 31).await;
    assert_eq!(prune(&test.engine).await, 0, "the walk is past it");
    sql(&pool, "update engine.pruning set round_began_at = now() - interval '1 day'").await;
    assert_eq!(prune(&test.engine).await, 2);
    test.close().await;
}

#[tokio::test]
async fn a_tree_is_deleted_whole_and_by_the_time_of_its_root() {
    let (_database, pool, test) = keeping(Retention::of(30 * DAY)).await;
    let root = ended(&test, PLAIN, &TestInput::default(), 29).await;
    let child = ended(&test, PLAIN, &TestInput::default(), 39).await;
    sqlx::query(
        "update engine.saga set root_id = $1, parent_id = $1, parent_step = 's', parent_round = 0, parent_position = 0 \
         where id = $2",
    )
    .bind(root.0)
    .bind(child.0)
    .execute(&pool)
    .await
    .unwrap();
    assert_eq!(prune(&test.engine).await, 0, "its root is younger");
    sqlx::raw_sql(
        "update engine.saga set ended_at = now() - interval '31 days' where parent_id is null; delete from engine.pruning;",
    )
    .execute(&pool)
    .await
    .unwrap();
    assert_eq!(prune(&test.engine).await, 2);
    test.close().await;
}

#[tokio::test]
async fn one_process_at_a_time_deletes_and_each_saga_is_deleted_once() {
    let (_database, pool, test) = keeping(Retention::of(30 * DAY)).await;
    for _ in 0..10 {
        ended(&test, PLAIN, &TestInput::default(), 31).await;
    }
    assert_eq!(test.engine.prune_sagas(1).await.unwrap(), Pruned { deleted: 1, more: true });
    // What the batch of another process holds.
    let mut other = pool.begin().await.unwrap();
    sqlx::query("select from engine.pruning for update").execute(&mut *other).await.unwrap();
    assert_eq!(test.engine.prune_sagas(100).await.unwrap(), Pruned::default());
    other.rollback().await.unwrap();
    // And a row that somebody holds is passed over.
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("select from engine.saga order by id desc limit 1 for update")
        .execute(&mut *holder)
        .await
        .unwrap();
    let second = Engine::builder(pool.clone()).retention(Retention::of(30 * DAY)).build().unwrap();
    let (one, two) = tokio::join!(prune(&test.engine), prune(&second));
    assert_eq!(one + two, 8);
    holder.rollback().await.unwrap();
    second.shutdown().await;
    test.close().await;
}

#[tokio::test]
async fn the_dead_jobs_of_sagas_that_went_on_go_to_the_archive_with_them() {
    let failures = StepFailures::only_at_pivot();
    let (_database, pool, test) =
        open(failures.clone(), |builder| builder.retention(Retention::of(30 * DAY))).await;
    let saga = PLAIN.with(&TestInput::default()).id(id_of(40));
    let started = test.engine.start(saga).await.unwrap();
    let (id, job) = dead_letter_existing(&test, started.saga_id).await;
    failures.at_pivot.store(false, Ordering::Release);
    test.engine.retry_dead_job(job.dead_job_id, "ann", "again").await.unwrap();
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    moved_back(&pool, id, 40, 31).await;
    assert_eq!(prune(&test.engine).await, 1);
    let archived = test.engine.archived_dead_job(job.dead_job_id).await.unwrap().unwrap();
    assert_eq!(archived.dead_job.resolution.map(DeadJobResolution::name), Some("retried"));
    test.close().await;
}

#[tokio::test]
async fn a_saga_that_can_not_be_deleted_keeps_no_other_from_being_deleted() {
    let (_database, pool, test) = keeping(Retention::of(30 * DAY)).await;
    let mut old = Vec::new();
    for _ in 0..7 {
        old.push(ended(&test, PLAIN, &TestInput::default(), 31).await);
    }
    // Of one the row can't be deleted, of another the history.
    let refusals = format!(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'damaged'; end $$;
         create trigger refuse_saga before delete on engine.saga
             for each row when (old.id = '{}') execute function refuse();
         create trigger refuse_history before delete on engine.history_run
             for each row when (old.saga_id = '{}') execute function refuse()",
        old[1], old[4]
    );
    as_owner(&pool, &refusals).await.unwrap();
    assert_eq!(prune(&test.engine).await, 5);
    let left: Vec<Uuid> =
        sqlx::query_scalar("select id from engine.saga order by id").fetch_all(&pool).await.unwrap();
    assert_eq!(left, [old[1].0, old[4].0]);
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), [], "nothing of them is gone");

    let allow = "drop trigger refuse_saga on engine.saga; drop trigger refuse_history on engine.history_run;
                 update engine.pruning set round_began_at = now() - interval '2 days'";
    as_owner(&pool, allow).await.unwrap();
    assert_eq!(prune(&test.engine).await, 2, "the next round meets them again");
    test.close().await;
}
