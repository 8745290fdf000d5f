//! Requests that are refused, at once or when they are carried out, and those that have to wait.

use super::*;

#[tokio::test]
async fn what_the_stored_graph_tells_is_refused_at_once_and_the_rest_when_it_is_carried_out() {
    let failures = StepFailures::all();
    failures.at_pivot.store(false, Ordering::Release);
    let (_database, pool, test) = open(failures, |builder| builder).await;
    let (saga_id, job) = fail_in_undo(&test).await;
    let id = job.dead_job_id;
    let early = unaware(&pool);
    let refused = early.discard_dead_job(id, DiscardMode::Safe, "ada", "old").await;
    assert!(matches!(refused, Err(DeadJobError::NotUndone { .. })), "{refused:?}");
    assert_eq!(dead_job(&early, id).await.requested, None);
    early.shutdown().await;
    test.close().await;

    // Without its graph nobody can tell but a process that has the code.
    sql(&pool, "delete from engine.graph").await;
    let late = unaware(&pool);
    requested(late.discard_dead_job(id, DiscardMode::Safe, "ada", "old").await.unwrap());
    sql(&pool, "update engine.dead_job set expires_at = now() - interval '1 day'").await;
    let right = idle(&pool, plain_saga());
    right.carry_out_requests().await.unwrap();
    let refused = dead_job(&late, id).await;
    assert_eq!((refused.requested, refused.resolution), (None, None));
    let expires_in = refused.expires_at.unwrap() - late.now().await.unwrap();
    assert!(expires_in.num_hours() >= 23, "an operator has time to see it: {expires_in}");
    let refusal = refused.refused_request.unwrap();
    assert_eq!((refusal.request.by.as_str(), refusal.request.reason.as_str()), ("ada", "old"));
    assert!(refusal.why.contains("not undone: `pack`"), "{}", refusal.why);
    assert_eq!(late.saga(saga_id).await.unwrap().unwrap().status, Status::Dead);
    right.carry_out_requests().await.unwrap();
    assert_eq!(dead_job(&late, id).await.refused_request, Some(refusal), "it is not tried again");
    // A new request stands in the place of the refusal.
    let again = requested(late.retry_dead_job(id, "ada", "the cause is fixed").await.unwrap());
    assert!(again.waits_for_version, "a process that works on no queue does not count");
    let shown = dead_job(&late, id).await;
    assert_eq!(shown.refused_request, None);
    assert_eq!(right.verify_histories(10).await.unwrap(), []);
    right.shutdown().await;
    late.shutdown().await;
}

/// Panics or refuses for sagas with a certain input.
struct Refuses;

impl StatusObserver for Refuses {
    async fn status_changed(&self, tx: &mut Tx<'_>, changes: &[StatusChange]) -> Result<(), StepError> {
        let active = || changes.iter().filter(|change| change.status.is_active());
        assert!(!active().any(|change| change.input.get().contains("panics")), "at the disco");
        if active().any(|change| change.input.get().contains("divides")) {
            sqlx::query("select 1 / 0").execute(&mut **tx).await?;
        }
        if active().any(|change| change.input.get().contains("refuses")) {
            return Err(StepError::Other("refused by the observer".into()));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_request_that_fails_is_refused_and_holds_up_no_other() {
    const OBSERVED: SagaName<TestInput> = SagaName::new("observed-saga");
    let saga = || Saga::named(OBSERVED).then(Pack).pivot(Seal).observed_by(Refuses).build().unwrap();
    let (_database, pool, test) =
        open(StepFailures::only_at_pivot(), |builder| builder.register(saga())).await;
    let mut dead = Vec::new();
    for input in ["panics", "refuses", "divides", "is fine"] {
        let started = test.engine.start(OBSERVED.with(&TestInput::with(input, StepFault::Panics))).await;
        dead.push(dead_letter_existing(&test, started.unwrap().saga_id).await);
    }
    test.close().await;
    let unaware = unaware(&pool);
    for (_, job) in &dead {
        requested(unaware.retry_dead_job(job.dead_job_id, "ada", "mended").await.unwrap());
    }
    let right = idle(&pool, saga());
    right.carry_out_requests().await.unwrap();
    for ((saga_id, job), why) in dead.iter().zip(["panicked: at the disco", "refused by the", "division by"])
    {
        let job = dead_job(&unaware, job.dead_job_id).await;
        assert_eq!((&job.requested, job.resolution), (&None, None), "{why}");
        assert!(job.refused_request.as_ref().is_some_and(|refused| refused.why.contains(why)), "{job:?}");
        assert_eq!(retries(&unaware, *saga_id).await, 0, "{why}");
    }
    let last = dead_job(&unaware, dead[3].1.dead_job_id).await;
    assert_eq!(last.resolution, Some(DeadJobResolution::Retried));
    assert_eq!(right.verify_histories(10).await.unwrap(), []);
    unaware.shutdown().await;
    right.shutdown().await;
}

#[tokio::test]
async fn requests_whose_rows_are_locked_wait_and_hold_up_no_other() {
    let (_database, pool, dead) = dead_at_pivot(3).await;
    let unaware = unaware(&pool);
    for (_, job) in &dead {
        requested(unaware.retry_dead_job(job.dead_job_id, "ada", "mended").await.unwrap());
    }
    let mut locked = pool.begin().await.unwrap();
    let statement = "select id from engine.dead_job where id = $1 for update";
    sqlx::query(statement).bind(dead[0].1.dead_job_id.0).execute(&mut *locked).await.unwrap();
    let statement = "select id from engine.saga where id = $1 for update";
    sqlx::query(statement).bind(dead[1].0.0).execute(&mut *locked).await.unwrap();
    let right = working(&pool);
    assert_eq!(right.engine.carry_out_requests().await.unwrap(), 1);
    for ((_, job), resolution) in dead.iter().zip([None, None, Some(DeadJobResolution::Retried)]) {
        assert_eq!(dead_job(&unaware, job.dead_job_id).await.resolution, resolution);
    }
    locked.commit().await.unwrap();
    fixtures::holds(&pool, "select bool_and(resolution is not null) from engine.dead_job").await;
    for (saga_id, _) in &dead {
        let ended = right.engine.wait(*saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
        assert_eq!(ended.status, Status::Completed);
    }
    assert_eq!(right.engine.verify_histories(10).await.unwrap(), []);
    unaware.shutdown().await;
    right.close().await;
}
