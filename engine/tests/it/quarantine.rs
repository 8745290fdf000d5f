//! A saga whose row can't be changed stops no other: what changes many sagas at once leaves it out.

use std::time::Duration;

use engine::{Engine, EngineBuilder, Feed, Performed, SagaId, Status, testing::expire_leases};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::{
    claims::next,
    fixtures::{self, ExternalWorld, FULL, PLAIN, TestEngine, TestInput},
    step_failures::{StepFailures, dead_letter_at_pivot, open},
};

use crate::support::{Database, WAIT_TIMEOUT, as_owner};

/// Errors of the classes that may be a row's fault, for ever or for some time.
const SQLSTATES: &[&str] =
    &["22P02", "23514", "40P01", "42501", "53200", "54000", "55P03", "57014", "P0001", "XX001"];

const OTHERS: usize = 20;

/// Raises the errors of the table `refusal` whenever one of its sagas, or the archived dead job of one, is changed.
const REFUSALS: &str = "
    create table refusal (saga_id uuid primary key, code text not null);
    grant all on refusal to public;
    create function refuse() returns trigger language plpgsql as $$
    declare
        id uuid := coalesce(to_jsonb(old) ->> 'saga_id', to_jsonb(old) ->> 'id');
        refused text := (select code from refusal where saga_id = id);
    begin
        if refused is not null then
            raise exception 'the row can not be changed' using errcode = refused;
        end if;
        return case when tg_op = 'DELETE' then old else new end;
    end $$;
    create trigger refuse before update on engine.saga for each row execute function refuse();
    create trigger refuse before delete on engine.dead_job_archive for each row execute function refuse();
";

async fn database() -> (Database, PgPool) {
    let (database, pool) = fixtures::database().await;
    as_owner(&pool, REFUSALS).await.unwrap();
    (database, pool)
}

async fn sql(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap();
}

async fn count(pool: &PgPool, query: &str) -> usize {
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap();
    usize::try_from(count).unwrap()
}

fn plain(pool: &PgPool) -> EngineBuilder {
    Engine::builder(pool.clone()).register(fixtures::plain_saga())
}

/// Starts sagas, and returns those whose rows are to be refused, one for each SQLSTATE, and the others. They alternate.
async fn start(engine: &Engine) -> (Vec<SagaId>, Vec<SagaId>) {
    let (mut bad, mut good) = (Vec::new(), Vec::new());
    for nth in 0..SQLSTATES.len() + OTHERS {
        let saga_id = engine.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
        let sagas = if nth % 2 == 0 && bad.len() < SQLSTATES.len() { &mut bad } else { &mut good };
        sagas.push(saga_id);
    }
    (bad, good)
}

async fn refuse(pool: &PgPool, sagas: &[SagaId]) {
    sqlx::query("insert into refusal select * from unnest($1::uuid[], $2::text[])")
        .bind(sagas.iter().map(|saga_id| saga_id.0).collect::<Vec<Uuid>>())
        .bind(SQLSTATES)
        .execute(pool)
        .await
        .unwrap();
}

const LEASED: &str = "select count(lease_owner) from engine.saga";

/// An engine that holds claims of all these sagas, and does not work on them.
async fn holding(pool: &PgPool, lease: Duration) -> (Engine, Feed, Vec<SagaId>, Vec<SagaId>) {
    let engine = plain(pool).lease(lease).build().unwrap();
    let feed = engine.feed("default", SQLSTATES.len() + OTHERS);
    let (bad, good) = start(&engine).await;
    // Those that the starts did not claim, a poll does.
    fixtures::holds(pool, "select bool_and(lease_owner is not null) from engine.saga").await;
    refuse(pool, &bad).await;
    (engine, feed, bad, good)
}

#[tokio::test]
async fn rows_that_can_not_be_changed_keep_no_other_claim_from_being_released() {
    let (_database, pool) = database().await;
    let (engine, mut feed, bad, _) = holding(&pool, Duration::from_hours(1)).await;
    feed.close();
    feed.closed().await;
    assert_eq!(count(&pool, LEASED).await, bad.len(), "the others are free at once");
    assert_eq!(
        count(&pool, "select sum(attempt) from engine.saga where lease_owner is null").await,
        0,
        "no attempt is counted"
    );
    // What is left is tried once more when the process stops.
    sql(&pool, "delete from refusal where code <> '23514'").await;
    engine.shutdown().await;
    assert_eq!(count(&pool, LEASED).await, 1, "its lease runs out");
    sql(&pool, "delete from refusal").await;
    expire_leases(&pool, engine.worker()).await.unwrap();
    let test = TestEngine::build(plain(&pool));
    for saga_id in bad {
        assert_eq!(test.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    }
    assert_eq!(test.engine.verify_histories(100).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn a_claim_that_could_not_be_released_is_released_once_it_can() {
    let (_database, pool) = database().await;
    let (engine, mut feed, bad, _) = holding(&pool, Duration::from_secs(3)).await;
    sql(&pool, "update engine.saga set lease_until = now() + interval '1 hour' where id not in (select saga_id from refusal)").await;
    feed.close();
    feed.closed().await;
    assert_eq!(count(&pool, LEASED).await, bad.len());
    sql(&pool, "delete from refusal").await;
    // The lease keeper tries again by itself.
    fixtures::holds(&pool, "select count(lease_owner) = 0 from engine.saga").await;
    assert_eq!(count(&pool, "select sum(attempt) from engine.saga").await, 0, "no attempt is counted");
    engine.shutdown().await;
}

#[tokio::test]
async fn rows_that_can_not_be_changed_keep_no_other_lease_from_being_extended() {
    let (_database, pool) = database().await;
    let (engine, mut feed, bad, _) = holding(&pool, Duration::from_secs(3)).await;
    let after_a_lease = "lease_until > claimed_at + interval '3.5 s'";
    let others = format!(
        "select bool_and({after_a_lease}) from engine.saga where id not in (select saga_id from refusal)"
    );
    fixtures::holds(&pool, &others).await;
    // Whatever has passed since: their leases have just ended, and are extended again.
    sql(&pool, "update engine.saga set lease_until = now() where id not in (select saga_id from refusal)")
        .await;
    let held =
        "select bool_and(lease_until > now()) from engine.saga where id not in (select saga_id from refusal)";
    fixtures::holds(&pool, held).await;
    let extended = format!("select count(*) from engine.saga where {after_a_lease}");
    assert_eq!(count(&pool, &extended).await, OTHERS, "the leases of the others run out");
    sql(&pool, "delete from refusal").await;
    fixtures::holds(&pool, &format!("select bool_and({after_a_lease}) from engine.saga")).await;
    assert_eq!(count(&pool, "select count(*) from engine.saga where epoch = 1").await, bad.len() + OTHERS);
    feed.close();
    engine.shutdown().await;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Due,
    Lapsed,
    Probation,
}

/// Sagas that can be claimed in this scope, of which some can't.
async fn claimable(pool: &PgPool, scope: Scope) -> (Vec<SagaId>, Vec<SagaId>) {
    let caller = plain(pool).build().unwrap();
    let (bad, good) = start(&caller).await;
    caller.shutdown().await;
    let lost = match scope {
        Scope::Due => None,
        Scope::Lapsed => Some(0),
        Scope::Probation => Some(1),
    };
    if let Some(lost) = lost {
        let held = format!(
            "update engine.saga set lease_owner = gen_random_uuid(), lost_attempts = {lost}, epoch = 1, attempt = 1, claimed_at = now(), \
                 lease_until = now() - interval '1 s', due_at = null"
        );
        sql(pool, &held).await;
    }
    refuse(pool, &bad).await;
    (bad, good)
}

async fn are_claimed_beside_rows_that_can_not(scope: Scope) {
    let (_database, pool) = database().await;
    let (bad, good) = claimable(&pool, scope).await;
    let test =
        TestEngine::build(plain(&pool).poll(Duration::from_millis(20)).sweep(Duration::from_millis(100)));
    for saga_id in good {
        let ending = test.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().expect("it is claimed");
        assert_eq!(ending.status, Status::Completed);
    }
    // What becomes due later in the same queue is claimed as well. It is started elsewhere, because a process claims at
    // its start what it starts itself.
    let caller = plain(&pool).build().unwrap();
    for _ in 0..10 {
        let run = caller.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(run.1.expect("it is claimed").status, Status::Completed);
    }
    let untouched = "select count(*) from engine.saga where status = 'running'";
    assert_eq!(count(&pool, untouched).await, bad.len());
    sql(&pool, "delete from refusal").await;
    for saga_id in bad {
        let ending = caller.wait(saga_id, WAIT_TIMEOUT).await.unwrap().expect("it comes back by itself");
        assert_eq!(ending.status, Status::Completed);
    }
    assert_eq!(caller.verify_histories(100).await.unwrap(), []);
    caller.shutdown().await;
    test.close().await;
}

#[tokio::test]
async fn a_queue_goes_on_although_due_rows_can_not_be_changed() {
    are_claimed_beside_rows_that_can_not(Scope::Due).await;
}

#[tokio::test]
async fn a_queue_goes_on_although_rows_with_an_ended_lease_can_not_be_changed() {
    are_claimed_beside_rows_that_can_not(Scope::Lapsed).await;
}

#[tokio::test]
async fn a_queue_goes_on_although_rows_on_probation_can_not_be_changed() {
    are_claimed_beside_rows_that_can_not(Scope::Probation).await;
}

#[tokio::test]
async fn sagas_are_claimed_by_id_although_others_can_not_be() {
    let (_database, pool) = database().await;
    let (bad, good) = claimable(&pool, Scope::Due).await;
    let engine = plain(&pool).poll(Duration::from_hours(1)).build().unwrap();
    let ids: Vec<_> = bad.iter().chain(&good).copied().collect();
    assert_eq!(engine.claim_ids(&ids).await.unwrap(), good.len());
    assert_eq!(engine.claim_ids(&bad).await.unwrap(), 0, "and the others are left out");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_queue_with_one_slot_goes_on_although_the_oldest_rows_can_not_be_changed() {
    let (_database, pool) = database().await;
    let (_, good) = claimable(&pool, Scope::Due).await;
    let engine = plain(&pool).poll(Duration::from_millis(20)).build().unwrap();
    let mut feed = engine.feed("default", 1);
    let mut ended = 0;
    while ended < good.len() {
        let job = next(&mut feed).await;
        assert!(good.contains(&job.saga_id()));
        let saga_id = job.saga_id();
        engine.commit(job, Performed::in_batch()).await;
        ended += usize::from(engine.saga(saga_id).await.unwrap().unwrap().status == Status::Completed);
    }
    feed.close();
    engine.shutdown().await;
}

#[tokio::test]
async fn sagas_whose_outputs_can_not_be_read_stop_no_other() {
    let (_database, pool) = database().await;
    let world = ExternalWorld::default();
    let full = || Engine::builder(pool.clone()).register(fixtures::full_saga(&world));
    // Ten sagas stand at their second step.
    let first = full().build().unwrap();
    let mut feed = first.feed("default", 10);
    for _ in 0..10 {
        first.start(FULL.with(&TestInput::default())).await.unwrap();
    }
    let mut calls = Vec::new();
    while calls.len() < 10 {
        let job = next(&mut feed).await;
        if job.is_call() {
            calls.push(job);
        } else {
            first.commit(job, Performed::in_batch()).await;
        }
    }
    feed.close();
    for call in calls {
        first.release(call);
    }
    first.shutdown().await;
    sql(
        &pool,
        "create table unread as
             select saga_id, seq, next_outputs from engine.history_run where direction = 'action' limit 3;
         update engine.history_run set next_outputs = '{}' where saga_id in (select saga_id from unread)",
    )
    .await;
    let test = TestEngine::build(full().poll(Duration::from_millis(20)).sweep(Duration::from_millis(100)));
    fixtures::holds(&pool, "select count(*) = 7 from engine.saga where status = 'completed'").await;
    sql(
        &pool,
        "update engine.history_run r set next_outputs = u.next_outputs from unread u where u.saga_id = r.saga_id and u.seq = r.seq",
    )
    .await;
    fixtures::holds(&pool, "select count(*) = 10 from engine.saga where status = 'completed'").await;
    assert_eq!(world.sent.lock().unwrap().len(), 10, "each call is made once");
    assert_eq!(test.engine.verify_histories(100).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn rows_that_can_not_be_changed_keep_no_other_saga_from_being_set_aside_and_woken() {
    let (_database, pool) = database().await;
    let (bad, good) = claimable(&pool, Scope::Due).await;
    let unaware =
        Engine::builder(pool.clone()).unknown_grace(Duration::ZERO).sweep(Duration::from_millis(20));
    let unaware = TestEngine::build(unaware);
    let aside = |count| format!("select count(*) = {count} from engine.saga where waits_for = 'version'");
    fixtures::holds(&pool, &aside(good.len())).await;
    sql(&pool, "create table refused as table refusal; delete from refusal").await;
    fixtures::holds(&pool, &aside(good.len() + bad.len())).await;
    unaware.close().await;

    sql(&pool, "insert into refusal table refused").await;
    let test = TestEngine::build(plain(&pool).lease(Duration::from_secs(2)));
    for saga_id in good {
        let ending = test.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().expect("it is woken");
        assert_eq!(ending.status, Status::Completed);
    }
    sql(&pool, "delete from refusal").await;
    for saga_id in bad {
        let ending = test.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().expect("it is woken");
        assert_eq!(ending.status, Status::Completed);
    }
    test.close().await;
}

#[tokio::test]
async fn dead_jobs_are_expired_and_pruned_although_others_can_not_be() {
    let more = |builder: EngineBuilder| {
        builder.dead_job_ttl(Duration::from_hours(1)).dead_job_archive_retention(Duration::from_hours(1))
    };
    let (_database, pool, test) = open(StepFailures::only_at_pivot(), more).await;
    as_owner(&pool, REFUSALS).await.unwrap();
    let engine = &test.engine;
    let mut sagas = Vec::new();
    for _ in 0..3 {
        sagas.push(dead_letter_at_pivot(&test).await.0);
    }
    // This error may pass, so the dead job is not put off for a day.
    let refused = format!("insert into refusal values ('{}', 'XX001')", sagas[0]);
    sql(&pool, &refused).await;
    sql(&pool, "update engine.dead_job set expires_at = now() - interval '1 s'").await;
    assert_eq!(engine.expire_dead_jobs(1).await.unwrap(), 0);
    assert_eq!(
        engine.expire_dead_jobs(1).await.unwrap(),
        1,
        "the first does not stand in the way of the next"
    );
    assert_eq!(engine.expire_dead_jobs(10).await.unwrap(), 1);
    sql(&pool, "delete from refusal").await;
    while engine.expire_dead_jobs(1).await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    sql(&pool, &refused).await;
    sql(&pool, "update engine.dead_job_archive set archived_at = now() - interval '2 hours'").await;
    assert_eq!(engine.prune_dead_job_archive(10).await.unwrap(), 2);
    sql(&pool, "delete from refusal").await;
    while engine.prune_dead_job_archive(10).await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    test.close().await;
}
