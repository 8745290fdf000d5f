//! What a newer version has stored is read as far as it can be, and what can't be read stops no list and no operator.

use std::sync::atomic::Ordering;

use engine::{BulkLimits, Cause, DeadJobFilter, HistoryOutcome, SagaFilter, Status};

use super::step_failures::{ALL, StepFailures, cause, dead_job, fail_in_undo, open};
use crate::support::{WAIT_TIMEOUT, as_owner};

const MANY: BulkLimits = BulkLimits { max_jobs: 100, time_limit: WAIT_TIMEOUT };

#[tokio::test]
async fn a_saga_whose_cause_can_not_be_decoded_is_listed_and_can_be_acted_on() {
    let failures = StepFailures::all();
    failures.at_pivot.store(false, Ordering::Release);
    let (_database, pool, test) = open(failures.clone(), |builder| builder).await;
    let engine = &test.engine;
    let (saga_id, job) = fail_in_undo(&test).await;
    let (other, _) = fail_in_undo(&test).await;
    let stored: serde_json::Value = sqlx::query_scalar("select cause from engine.saga where id = $1")
        .bind(saga_id.0)
        .fetch_one(&pool)
        .await
        .unwrap();
    sqlx::query("update engine.saga set cause = '{\"kind\": \"failed\"}' where id = $1")
        .bind(saga_id.0)
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(engine.sagas(&SagaFilter::default(), ALL).await.unwrap().items.len(), 2);
    assert_eq!(cause(engine, saga_id).await, None);
    assert_eq!(engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Dead);
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);

    failures.in_undo.store(false, Ordering::Release);
    let done = engine.retry_dead_jobs(&DeadJobFilter::default(), MANY, "ada", "unglued").await.unwrap();
    assert_eq!((done.done.len(), done.failed.len()), (2, 0), "{done:?}");
    assert_eq!(engine.wait(other, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Dead);
    let again = dead_job(engine, saga_id).await;
    assert!(again.dead_job_id != job.dead_job_id && again.error.contains("cause can't be read"), "{again:?}");
    // The stored cause was not changed, so what is wrong with it can be mended.
    sqlx::query("update engine.saga set cause = $2 where id = $1 and cause = '{\"kind\": \"failed\"}'")
        .bind(saga_id.0)
        .bind(stored)
        .execute(&pool)
        .await
        .unwrap();
    engine.retry_dead_job(again.dead_job_id, "ada", "mended it").await.unwrap();
    assert_eq!(engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    test.close().await;
}

/// A newer version may compensate for reasons that this one does not know, and record what this one has no name for.
#[tokio::test]
async fn a_saga_with_a_cause_and_an_entry_of_a_newer_version_is_listed_and_undone() {
    let failures = StepFailures::all();
    failures.at_pivot.store(false, Ordering::Release);
    let (_database, pool, test) = open(failures.clone(), |builder| builder).await;
    let engine = &test.engine;
    let (saga_id, job) = fail_in_undo(&test).await;
    let newer = serde_json::json!({"kind": "from_the_future", "when": 3026});
    sqlx::query("update engine.saga set cause = $2 where id = $1")
        .bind(saga_id.0)
        .bind(&newer)
        .execute(&pool)
        .await
        .unwrap();
    as_owner(&pool, "update engine.history_run set outcome = 'foreseen' where outcome = 'retry'")
        .await
        .unwrap();
    let listed = engine.sagas(&SagaFilter::default(), ALL).await.unwrap().items;
    assert!(matches!(&listed[0].cause, Some(Cause::Other(other)) if other.kind() == "from_the_future"));
    let history = engine.history(saga_id).await.unwrap().unwrap();
    assert!(history.iter().any(|entry| entry.outcome == HistoryOutcome::Unknown), "{history:?}");
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);

    failures.in_undo.store(false, Ordering::Release);
    engine.retry_dead_job(job.dead_job_id, "ada", "again").await.unwrap();
    assert_eq!(engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    let kept: serde_json::Value = sqlx::query_scalar("select cause from engine.saga where id = $1")
        .bind(saga_id.0)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(kept, newer);
    test.close().await;
}
