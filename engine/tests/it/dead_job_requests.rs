//! Dead jobs on which operators act through a process that lacks the code of their sagas: it asks one that has it.

mod failures;

use std::sync::atomic::Ordering;

use engine::{
    ActionRequested, AuditFilter, BulkLimits, CancelOrigin, CancelOutcome, Cause, DeadJob, DeadJobAction,
    DeadJobEffect, DeadJobError, DeadJobFilter, DeadJobId, DeadJobOutcome, DeadJobResolution, Definition,
    DiscardEffect, DiscardMode, Engine, HistoryOutcome, Operator, Saga, SagaId, SagaName, Status,
    StatusChange, StatusObserver, StepError, Tx,
};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    fixtures::{self, Pack, Seal, StepFault, TestEngine, TestInput, plain_saga},
    step_failures::{StepFailures, dead_letter_at_pivot, dead_letter_existing, fail_in_undo, open, sql},
};
use crate::support::{Database, WAIT_TIMEOUT};

const MANY: BulkLimits = BulkLimits { max_jobs: 100, time_limit: WAIT_TIMEOUT };

/// Sagas that died at their pivot, and whose process has stopped.
async fn dead_at_pivot(count: usize) -> (Database, PgPool, Vec<(SagaId, DeadJob)>) {
    let (database, pool, test) = open(StepFailures::only_at_pivot(), |builder| builder).await;
    let mut dead = Vec::new();
    for _ in 0..count {
        dead.push(dead_letter_at_pivot(&test).await);
    }
    test.close().await;
    (database, pool, dead)
}

/// An engine without any code.
fn unaware(pool: &PgPool) -> Engine {
    Engine::builder(pool.clone()).build().unwrap()
}

/// An engine that has the code and works on no queue.
fn idle(pool: &PgPool, definition: Definition) -> Engine {
    Engine::builder(pool.clone()).register(definition).build().unwrap()
}

fn working(pool: &PgPool) -> TestEngine {
    TestEngine::build(Engine::builder(pool.clone()).register(plain_saga()))
}

fn requested<T: std::fmt::Debug>(outcome: DeadJobOutcome<T>) -> ActionRequested {
    match outcome {
        DeadJobOutcome::Requested(requested) => requested,
        done @ DeadJobOutcome::Done(_) => panic!("{done:?}"),
    }
}

async fn dead_job(engine: &Engine, id: DeadJobId) -> DeadJob {
    engine.dead_job(id).await.unwrap().unwrap()
}

/// The actors, the states after the change and the contexts of what was done to a saga, the last first.
async fn audited(engine: &Engine, id: SagaId) -> Vec<(String, String, Value, Option<Value>)> {
    let filter = AuditFilter { subject: Some(id.0), ..AuditFilter::default() };
    let records = engine.audit(&filter, None, 100).await.unwrap().items;
    let record = |record: engine::AuditRecord| {
        (record.actor, record.action, record.after.unwrap_or_default(), record.context)
    };
    records.into_iter().map(record).collect()
}

async fn retries(engine: &Engine, id: SagaId) -> usize {
    let history = engine.history(id).await.unwrap().unwrap();
    history.iter().filter(|entry| entry.outcome == HistoryOutcome::Retried).count()
}

/// Hides the requests from processes that could carry them out.
async fn hide(pool: &PgPool) {
    sql(pool, r#"update engine.dead_job set request = request || '{"graph_hash": "hidden"}'"#).await;
}

#[tokio::test]
async fn a_retry_waits_for_a_process_with_the_code_and_is_carried_out_when_one_starts() {
    let (_database, pool, dead) = dead_at_pivot(1).await;
    let (saga_id, job) = &dead[0];
    let unaware = unaware(&pool);
    let by = Operator { actor: "ada", context: Some(json!({"address": "192.0.2.1"})) };
    let asked = requested(unaware.retry_dead_job(job.dead_job_id, by.clone(), "mended").await.unwrap());
    let graph_hash = plain_saga().graph().hash.clone();
    assert_eq!(asked, ActionRequested { saga_id: *saga_id, graph_hash, waits_for_version: true });
    assert_eq!(unaware.saga(*saga_id).await.unwrap().unwrap().status, Status::Dead);
    let shown = dead_job(&unaware, job.dead_job_id).await;
    let request = shown.requested.unwrap();
    assert_eq!(
        (request.action, request.by.as_str(), request.reason.as_str(), shown.resolution),
        (DeadJobAction::Retry, "ada", "mended", None)
    );
    // Nobody who asks for the same changes anything.
    requested(unaware.retry_dead_job(job.dead_job_id, "bob", "me too").await.unwrap());
    assert_eq!(dead_job(&unaware, job.dead_job_id).await.requested.unwrap(), request);
    let first = audited(&unaware, *saga_id).await;
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!((&first[0].2["requested"], &first[0].2["status"]), (&json!(true), &json!("dead")));
    assert_eq!(unaware.carry_out_requests().await.unwrap(), 0, "it has no code");

    let right = working(&pool);
    let resolved =
        format!("select resolution = 'retried' from engine.dead_job where id = '{}'", job.dead_job_id);
    fixtures::holds(&pool, &resolved).await;
    assert_eq!(right.engine.wait(*saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    let resolved = dead_job(&unaware, job.dead_job_id).await;
    assert_eq!(
        (resolved.resolved_by.as_deref(), resolved.resolved_reason.as_deref(), resolved.requested),
        (Some("ada"), Some("mended"), None)
    );
    let audit = audited(&unaware, *saga_id).await;
    assert_eq!(audit.len(), 2, "{audit:?}");
    assert_eq!((audit[0].0.as_str(), audit[0].1.as_str(), &audit[0].3), ("ada", "retry", &by.context));
    assert_eq!(audit[0].2["status"], json!("running"), "{audit:?}");
    assert_eq!(right.engine.verify_histories(10).await.unwrap(), []);
    unaware.shutdown().await;
    right.close().await;
}

#[tokio::test]
async fn a_discard_that_another_process_carries_out_compensates() {
    let (_database, pool, dead) = dead_at_pivot(1).await;
    let (saga_id, job) = &dead[0];
    let unaware = unaware(&pool);
    requested(unaware.retry_dead_job(job.dead_job_id, "ada", "mended").await.unwrap());
    // The last word counts.
    let discard = unaware.discard_dead_job(job.dead_job_id, DiscardMode::Safe, "bob", "written off");
    requested(discard.await.unwrap());
    let right = working(&pool);
    right.engine.carry_out_requests().await.unwrap();
    let ended = right.engine.wait(*saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ended.status, Status::Compensated);
    assert_eq!(
        ended.cause,
        Some(Cause::Cancelled {
            actor: "bob".into(),
            reason: "written off".into(),
            origin: CancelOrigin::Discarded
        })
    );
    assert_eq!(retries(&unaware, *saga_id).await, 0);
    assert_eq!(fixtures::effects(&pool, "pack").await, 0);
    let audit = audited(&unaware, *saga_id).await;
    let who: Vec<_> = audit.iter().map(|(actor, action, ..)| (actor.as_str(), action.as_str())).collect();
    assert_eq!(who, [("bob", "discard"), ("bob", "discard"), ("ada", "retry")]);
    assert_eq!(right.engine.verify_histories(10).await.unwrap(), []);
    unaware.shutdown().await;
    right.close().await;
}

#[tokio::test]
async fn a_request_is_void_once_the_saga_is_cancelled_and_keeps_its_dead_job_from_expiring() {
    let (_database, pool, dead) = dead_at_pivot(1).await;
    let (saga_id, job) = &dead[0];
    let unaware = unaware(&pool);
    requested(unaware.retry_dead_job(job.dead_job_id, "ada", "mended").await.unwrap());
    hide(&pool).await;
    sql(&pool, "update engine.dead_job set expires_at = now() - interval '1 day'").await;
    let right = working(&pool);
    assert_eq!(right.engine.expire_dead_jobs(10).await.unwrap(), 0);
    let still = dead_job(&unaware, job.dead_job_id).await;
    assert!(still.requested.is_some(), "an operator has acted on it: {still:?}");

    let cancelled = right.engine.cancel(*saga_id, "bob", "not wanted").await.unwrap();
    assert_eq!(cancelled, CancelOutcome::Compensating);
    let job = dead_job(&unaware, job.dead_job_id).await;
    assert_eq!((job.resolution, job.requested), (Some(DeadJobResolution::Cancelled), None));
    let void: bool =
        sqlx::query_scalar("select request is null from engine.dead_job").fetch_one(&pool).await.unwrap();
    assert!(void, "nothing of it is left");
    right.engine.carry_out_requests().await.unwrap();
    assert_eq!(right.engine.wait(*saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(retries(&unaware, *saga_id).await, 0);
    assert_eq!(right.engine.verify_histories(10).await.unwrap(), []);
    unaware.shutdown().await;
    right.close().await;
}

#[tokio::test]
async fn a_request_that_comes_while_its_dead_job_expires_keeps_it_open() {
    let (_database, pool, dead) = dead_at_pivot(1).await;
    let job = &dead[0].1;
    let right = idle(&pool, plain_saga());
    sql(&pool, "update engine.dead_job set expires_at = now() - interval '1 day'").await;
    let mut request = pool.begin().await.unwrap();
    sqlx::query("select id from engine.dead_job for update").execute(&mut *request).await.unwrap();
    let expiring = tokio::spawn({
        let right = right.clone();
        async move { right.expire_dead_jobs(10).await }
    });
    fixtures::holds(
        &pool,
        "select exists (select from pg_stat_activity where datname = current_database() \
             and wait_event_type = 'Lock' and query like '%engine.dead_job%for update%')",
    )
    .await;
    let stored = json!({
        "graph_hash": "hidden", "action": "retry", "by": "ada", "reason": "mended",
        "requested_at": "2026-11-28T06:00:00Z"
    });
    sqlx::query("update engine.dead_job set request = $1").bind(stored).execute(&mut *request).await.unwrap();
    request.commit().await.unwrap();
    assert_eq!(expiring.await.unwrap().unwrap(), 0);
    let job = dead_job(&right, job.dead_job_id).await;
    assert!(job.requested.is_some() && job.resolution.is_none(), "{job:?}");
    right.shutdown().await;
}

#[tokio::test]
async fn processes_that_race_for_requests_act_once() {
    let (_database, pool, dead) = dead_at_pivot(6).await;
    let unaware = unaware(&pool);
    let all = DeadJobFilter::default();
    let asked = unaware.retry_dead_jobs(&all, MANY, "ada", "mended").await.unwrap();
    assert_eq!(asked.requested, dead.iter().map(|(_, job)| job.dead_job_id).collect::<Vec<_>>());
    assert_eq!((asked.done, asked.skipped), (vec![], vec![]));
    let others: Vec<_> = (0..3).map(|_| idle(&pool, plain_saga())).collect();
    let racing = others.iter().map(Engine::carry_out_requests);
    let counts = futures::future::join_all(racing).await;
    let counts: Vec<u32> = counts.into_iter().map(Result::unwrap).collect();
    assert!(counts.iter().sum::<u32>() <= 6, "{counts:?}");
    others[0].carry_out_requests().await.unwrap();
    for (saga_id, job) in &dead {
        let job = dead_job(&unaware, job.dead_job_id).await;
        assert_eq!(job.resolution, Some(DeadJobResolution::Retried), "{counts:?}");
        assert_eq!(retries(&unaware, *saga_id).await, 1);
        assert_eq!(audited(&unaware, *saga_id).await.len(), 2);
    }
    assert_eq!(unaware.verify_histories(10).await.unwrap(), []);
    for engine in others.into_iter().chain([unaware]) {
        engine.shutdown().await;
    }
}

#[tokio::test]
async fn a_plan_requests_what_is_not_requested_yet() {
    let (_database, pool, dead) = dead_at_pivot(3).await;
    let ids: Vec<_> = dead.iter().map(|(_, job)| job.dead_job_id).collect();
    let unaware = unaware(&pool);
    let all = DeadJobFilter::default();
    let plan = unaware.plan_dead_jobs(&all, DeadJobAction::Retry, 2).await.unwrap();
    assert!(plan.jobs.iter().all(|job| job.effect == Ok(DeadJobEffect::Requested)), "{plan:?}");
    let done = unaware.carry_out(&plan, WAIT_TIMEOUT, "ada", "mended").await.unwrap();
    assert_eq!(done.requested, ids[..2]);
    // The next one gets on.
    let rest = unaware.retry_dead_jobs(&all, MANY, "ada", "mended").await.unwrap();
    assert_eq!(rest.requested, ids[2..]);
    assert_eq!(unaware.plan_dead_jobs(&all, DeadJobAction::Retry, 2).await.unwrap().jobs, []);
    // Another action replaces the requests; if it is forced, it ends at once what no live process knows.
    let discard = DeadJobAction::Discard(DiscardMode::Safe);
    assert_eq!(unaware.plan_dead_jobs(&all, discard, 9).await.unwrap().jobs.len(), 3);
    let forced = unaware.discard_dead_job(ids[0], DiscardMode::Force, "bob", "gone").await.unwrap();
    assert_eq!(forced.done().unwrap().effect, DiscardEffect::Abandon);
    assert_eq!(dead_job(&unaware, ids[0]).await.requested, None);
    // A process that has the code acts on what was requested. Locked and hidden, it is not carried out before.
    let mut locked = pool.begin().await.unwrap();
    sqlx::query("select id from engine.saga for update").execute(&mut *locked).await.unwrap();
    let right = idle(&pool, plain_saga());
    let plan = right.plan_dead_jobs(&all, DeadJobAction::Retry, 9).await.unwrap();
    assert_eq!(plan.jobs.len(), 2);
    assert!(plan.jobs.iter().all(|job| job.effect == Ok(DeadJobEffect::Retried)), "{plan:?}");
    hide(&pool).await;
    locked.commit().await.unwrap();
    let done = right.carry_out(&plan, WAIT_TIMEOUT, "carl", "at once").await.unwrap();
    assert_eq!(done.done, ids[1..]);
    assert_eq!(dead_job(&unaware, ids[1]).await.resolved_by.as_deref(), Some("carl"));
    assert_eq!(unaware.verify_histories(10).await.unwrap(), []);
    unaware.shutdown().await;
    right.shutdown().await;
}

#[tokio::test]
async fn a_forced_discard_is_requested_while_a_live_process_has_the_code() {
    let failures = StepFailures::all();
    failures.at_pivot.store(false, Ordering::Release);
    let (_database, pool, test) = open(failures, |builder| builder).await;
    let (saga_id, job) = fail_in_undo(&test).await;
    let announced = format!(
        "select exists (select from engine.process where queues <> '{{}}' and '{}' = any(hashes))",
        plain_saga().graph().hash
    );
    fixtures::holds(&pool, &announced).await;
    let unaware = unaware(&pool);
    let discard = unaware.discard_dead_job(job.dead_job_id, DiscardMode::Force, "ada", "by hand").await;
    assert!(!requested(discard.unwrap()).waits_for_version);
    test.engine.carry_out_requests().await.unwrap();
    let ended = format!("select ended_at is not null from engine.saga where id = '{saga_id}'");
    fixtures::holds(&pool, &ended).await;
    let saga = unaware.saga(saga_id).await.unwrap().unwrap();
    assert!(saga.status == Status::Dead && saga.ended_at.is_some(), "{saga:?}");
    let audit = audited(&unaware, saga_id).await;
    assert_eq!((&audit[0].2["abandoned"], &audit[1].2["force"]), (&json!(true), &json!(true)), "{audit:?}");
    assert_eq!(unaware.verify_histories(10).await.unwrap(), []);
    unaware.shutdown().await;
    test.close().await;
}
