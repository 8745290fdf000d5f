//! Dead jobs on which no operator acts are archived once, when their time to live is over. The sagas here are past
//! their pivot and end as they are; for the others see `discards`.

use std::time::Duration;

use engine::{
    BulkLimits, CancelError, DeadJobError, DeadJobFilter, DeadJobId, DeadJobObserver, DeadJobResolution,
    DeadLettered, DiscardMode, Engine, EngineBuilder, HistoryOutcome, Page, SagaId, Status, StepError, Tx,
    testing::{Fault, FaultPoint, Faults, with_faults},
};
use sqlx::PgPool;
use std::sync::Arc;

use super::fixtures::{self, PLAIN, TestEngine, TestInput};
use crate::support::{Database, WAIT_TIMEOUT};

const ALL: Page = Page { after: None, limit: 100 };
const DAY: Duration = Duration::from_hours(24);

/// Makes `file`, a step after the pivot, always fail.
struct FileFails;

impl Faults for FileFails {
    fn at(&self, _: SagaId, point: &FaultPoint, _: u32) -> Option<Fault> {
        (point.step == "file").then(|| Fault::Retry("the archive does not answer".into()))
    }
}

/// Adds the fault of [`FileFails`] to an engine.
fn failing(builder: EngineBuilder) -> EngineBuilder {
    with_faults(builder, Arc::new(FileFails))
}

/// A test with sagas that have died.
async fn with_dead_jobs(count: usize, ttl: Option<Duration>) -> (Database, TestEngine, Vec<SagaId>) {
    let (database, pool) = fixtures::database().await;
    let builder = Engine::builder(pool).register(fixtures::plain_saga()).dead_job_ttl(ttl);
    let test = TestEngine::build(failing(builder));
    let mut sagas = Vec::new();
    for _ in 0..count {
        sagas.push(die(&test.engine).await);
    }
    (database, test, sagas)
}

/// Starts a saga and waits until it is dead.
async fn die(engine: &Engine) -> SagaId {
    let (started, ending) =
        engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    started.saga_id
}

/// Ends the time to live of all dead jobs.
async fn expire_all(pool: &PgPool) {
    sqlx::query(
        "update engine.dead_job set expires_at = now() - interval '1 second' where expires_at is not null",
    )
    .execute(pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_dead_job_expires_after_the_time_to_live_of_its_definition() {
    let (_database, pool) = fixtures::database().await;
    let builder = Engine::builder(pool.clone()).register(fixtures::plain_saga()).dead_job_ttl(DAY);
    let test = TestEngine::build(failing(builder));
    die(&test.engine).await;
    let job = test.engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items.remove(0);
    let time_to_live = job.expires_at.unwrap() - job.died_at;
    assert!((time_to_live.num_seconds() - 86_400).abs() <= 1, "{time_to_live}");
    assert_eq!(test.engine.expire_dead_jobs(10).await.unwrap(), 0, "its time is not over");
    test.close().await;

    let own = Engine::builder(pool.clone())
        .register(fixtures::plain_saga())
        .dead_job_ttl(DAY)
        .dead_job_ttl_for(PLAIN.name(), None);
    let test = TestEngine::build(failing(own));
    die(&test.engine).await;
    let job = test.engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items.remove(0);
    assert_eq!(job.expires_at, None, "its definition has no time to live");
    test.close().await;

    let wrong =
        Engine::builder(pool).register(fixtures::plain_saga()).dead_job_ttl_for("no-such-saga", DAY).build();
    assert!(wrong.unwrap_err().to_string().contains("no-such-saga"));
}

#[tokio::test]
async fn an_expired_dead_job_is_archived_complete_and_its_saga_ends_dead_with_a_reason() {
    let (_database, test, sagas) = with_dead_jobs(1, Some(DAY)).await;
    let engine = &test.engine;
    let job = engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items.remove(0);
    let (_, before) = engine.dead_job_with_payload(job.dead_job_id).await.unwrap().unwrap();
    expire_all(engine.pool()).await;
    assert_eq!(engine.expire_dead_jobs(10).await.unwrap(), 1);
    assert_eq!(engine.expire_dead_jobs(10).await.unwrap(), 0);

    let (archived, payload) = engine.archived_dead_job_with_payload(job.dead_job_id).await.unwrap().unwrap();
    assert_eq!(archived.dead_job.errors.len(), 3);
    assert_eq!(
        (&payload, &archived.dead_job.error, archived.dead_job.died_at),
        (&before, &job.error, job.died_at)
    );
    assert_eq!(archived.dead_job.resolution, None);
    let listed = engine.archived_dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items;
    assert_eq!(listed.len(), 1);
    assert_eq!(engine.count_dead_jobs(&DeadJobFilter::default()).await.unwrap(), 0);

    let saga = engine.saga(sagas[0]).await.unwrap().unwrap();
    assert_eq!(saga.status, Status::Dead);
    assert!(saga.ended_at.is_some());
    let last = engine.history(sagas[0]).await.unwrap().unwrap().pop().unwrap();
    assert_eq!(last.outcome, HistoryOutcome::Discarded);
    assert!(last.error[0].starts_with("expired: no operator acted"), "{last:?}");
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);

    let retried = engine.retry_dead_job(job.dead_job_id, "ada", "late").await;
    assert!(matches!(retried, Err(DeadJobError::Archived(id)) if id == job.dead_job_id), "{retried:?}");
    let discarded = engine.discard_dead_job(job.dead_job_id, DiscardMode::Safe, "ada", "late").await;
    assert!(matches!(discarded, Err(DeadJobError::Archived(_))), "{discarded:?}");
    assert!(matches!(engine.cancel(sagas[0], "ada", "late").await, Err(CancelError::Ended(_))));
    test.close().await;
}

#[tokio::test]
async fn a_resolved_dead_job_is_archived_without_any_effect_on_its_saga() {
    let (_database, test, sagas) = with_dead_jobs(2, Some(DAY)).await;
    let engine = &test.engine;
    let jobs = engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items;
    let first = jobs.iter().find(|job| job.saga_id == sagas[0]).unwrap().dead_job_id;
    // The saga dies again and gets a new dead job.
    engine.retry_dead_job(first, "ada", "perhaps").await.unwrap();
    assert_eq!(engine.wait(sagas[0], WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Dead);
    sqlx::query("update engine.dead_job set expires_at = now() where id = $1")
        .bind(first.0)
        .execute(engine.pool())
        .await
        .unwrap();
    assert_eq!(engine.expire_dead_jobs(10).await.unwrap(), 1);
    let archived = engine.archived_dead_job(first).await.unwrap().unwrap();
    assert_eq!(archived.dead_job.resolution.map(DeadJobResolution::name), Some("retried"));
    assert_eq!(engine.archived_dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items.len(), 0);
    let resolved = DeadJobFilter { with_resolved: true, ..DeadJobFilter::default() };
    assert_eq!(engine.archived_dead_jobs(&resolved, ALL).await.unwrap().items.len(), 1);
    assert_eq!(engine.saga(sagas[0]).await.unwrap().unwrap().ended_at, None, "its new dead job still waits");
    assert_eq!(engine.count_dead_jobs(&DeadJobFilter::default()).await.unwrap(), 2);
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn concurrent_processes_archive_each_expired_dead_job_once() {
    let (_database, test, sagas) = with_dead_jobs(12, Some(DAY)).await;
    let pool = test.engine.pool().clone();
    expire_all(&pool).await;
    let engines: Vec<_> = (0..4)
        .map(|_| Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap())
        .collect();
    let archived = futures::future::join_all(engines.iter().map(|engine| async move {
        let mut archived = 0;
        while engine.count_dead_jobs(&DeadJobFilter::default()).await.unwrap() > 0 {
            archived += engine.expire_dead_jobs(3).await.unwrap();
        }
        archived
    }))
    .await;
    assert_eq!(archived.iter().sum::<u32>(), 12, "{archived:?}");
    for saga in sagas {
        let history = test.engine.history(saga).await.unwrap().unwrap();
        let ends = history.iter().filter(|entry| entry.outcome == HistoryOutcome::Discarded).count();
        assert_eq!(ends, 1);
    }
    assert_eq!(test.engine.verify_histories(100).await.unwrap(), []);
    for engine in engines {
        engine.shutdown().await;
    }
    test.close().await;
}

#[tokio::test]
async fn a_dead_job_whose_saga_is_locked_is_not_expired() {
    let (_database, test, sagas) = with_dead_jobs(1, Some(DAY)).await;
    let engine = &test.engine;
    expire_all(engine.pool()).await;
    let mut other_transaction = engine.pool().begin().await.unwrap();
    sqlx::query("select 1 from engine.saga where id = $1 for update")
        .bind(sagas[0].0)
        .execute(&mut *other_transaction)
        .await
        .unwrap();
    assert_eq!(engine.expire_dead_jobs(10).await.unwrap(), 0, "it does not wait for the lock");
    other_transaction.rollback().await.unwrap();
    assert_eq!(engine.expire_dead_jobs(10).await.unwrap(), 1);
    test.close().await;
}

async fn discard(engine: &Engine, filter: &DeadJobFilter, limit: u32, why: &str) -> Vec<DeadJobId> {
    let bulk = BulkLimits { max_jobs: limit, time_limit: WAIT_TIMEOUT };
    engine.discard_dead_jobs(filter, bulk, DiscardMode::Safe, "ada", why).await.unwrap().done
}

#[tokio::test]
async fn dead_jobs_are_discarded_by_filter_and_counted_by_step_and_error() {
    let (_database, test, _sagas) = with_dead_jobs(4, None).await;
    let engine = &test.engine;
    let all = DeadJobFilter::default();
    let summary = engine.summarize_dead_jobs(&all).await.unwrap();
    let kinds: Vec<_> = summary
        .by_kind
        .iter()
        .map(|kind| (kind.definition.as_str(), kind.step.as_str(), kind.count))
        .collect();
    assert_eq!(kinds, [("plain-saga", "file", 4)]);
    assert_eq!(summary.by_error.len(), 1);
    assert_eq!(
        (summary.by_error[0].count, summary.by_error[0].error.as_str()),
        (4, "the archive does not answer")
    );
    let other = DeadJobFilter { step: Some("pack".into()), ..DeadJobFilter::default() };
    assert!(engine.summarize_dead_jobs(&other).await.unwrap().by_kind.is_empty());
    assert!(discard(engine, &other, 100, "none").await.is_empty());
    assert_eq!(discard(engine, &all, 3, "written off").await.len(), 3);
    assert_eq!(discard(engine, &all, 3, "written off").await.len(), 1);
    assert_eq!(engine.count_dead_jobs(&all).await.unwrap(), 0);
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

/// Records each dead job in the transaction that creates it, or fails to.
struct RecordDeadJobs {
    broken: bool,
}

impl DeadJobObserver for RecordDeadJobs {
    async fn dead_lettered(&self, tx: &mut Tx<'_>, deaths: &[DeadLettered]) -> Result<(), StepError> {
        for death in deaths {
            let table = if self.broken { "no_such_table" } else { "effect" };
            let sql = format!("insert into {table} (saga_id, step, change) values ($1, $2, 1)");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(death.saga_id.0)
                .bind(format!("{}/{} died", death.definition, death.step))
                .execute(&mut **tx)
                .await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn the_dead_job_observer_is_called_in_the_transaction_that_dead_letters() {
    let (_database, pool) = fixtures::database().await;
    let builder =
        Engine::builder(pool).register(fixtures::plain_saga()).on_dead_job(RecordDeadJobs { broken: false });
    let test = TestEngine::build(failing(builder));
    die(&test.engine).await;
    assert_eq!(fixtures::effects(test.engine.pool(), "plain-saga/file died").await, 1);
    test.close().await;
}

#[tokio::test]
async fn a_dead_job_observer_that_always_fails_does_not_prevent_dead_lettering() {
    let (_database, pool) = fixtures::database().await;
    let builder = Engine::builder(pool.clone())
        .register(fixtures::plain_saga())
        .on_dead_job(RecordDeadJobs { broken: true });
    let test = TestEngine::build(failing(builder));
    let started = test.engine.start(PLAIN.with(&TestInput::default())).await.unwrap();
    let ending = tokio::time::timeout(WAIT_TIMEOUT * 2, async {
        loop {
            engine::testing::make_all_due(&pool).await.unwrap();
            if let Some(ending) = test.engine.wait(started.saga_id, Duration::from_millis(200)).await.unwrap()
            {
                return ending;
            }
        }
    });
    assert_eq!(ending.await.expect("it is with_dead_jobs at last").status, Status::Dead);
    assert_eq!(test.engine.count_dead_jobs(&DeadJobFilter::default()).await.unwrap(), 1);
    test.close().await;
}
