//! Dead sagas that are given up by an operator or by expiry: whatever can be undone is undone.

use std::{sync::atomic::Ordering, time::Duration};

use engine::{
    BulkLimits, BulkResult, CancelError, CancelOrigin, Cause, DeadJobAction, DeadJobEffect, DeadJobError,
    DeadJobFilter, DeadJobResolution, Direction, DiscardEffect, DiscardMode, Engine, HistoryOutcome, Saga,
    SagaName, Status, StatusChange, StatusObserver, StepError, Tx,
};

use super::{
    fixtures::{self, File, Pack, Seal, StepFault, TestInput},
    step_failures::{
        StepFailures, cause, dead_job, dead_letter_at_pivot, dead_letter_existing, fail_in_undo, open, sql,
    },
};
use crate::support::WAIT_TIMEOUT;

const DAY: Duration = Duration::from_hours(24);
const MANY: BulkLimits = BulkLimits { max_jobs: 100, time_limit: WAIT_TIMEOUT };

#[tokio::test]
async fn a_saga_that_can_still_compensate_does_so_when_it_is_discarded() {
    let (_database, pool, test) = open(StepFailures::only_at_pivot(), |builder| builder).await;
    let engine = &test.engine;
    let (saga_id, job) = dead_letter_at_pivot(&test).await;
    assert_eq!(fixtures::effects(&pool, "pack").await, 1);
    let done = engine.discard_dead_job(job.dead_job_id, DiscardMode::Safe, "ada", "lost").await.unwrap();
    let done = done.done().unwrap();
    assert_eq!((done.saga_id, done.effect), (saga_id, DiscardEffect::Compensate));
    assert_eq!(engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(fixtures::effects(&pool, "pack").await, 0, "the effect is undone");
    let cause = cause(engine, saga_id).await.unwrap();
    assert_eq!(
        cause,
        Cause::Cancelled { actor: "ada".into(), reason: "lost".into(), origin: CancelOrigin::Discarded }
    );
    assert!(cause.is_given_up());
    let job = engine.dead_job(job.dead_job_id).await.unwrap().unwrap();
    assert_eq!(
        (job.resolution.map(DeadJobResolution::name), job.resolved_by.as_deref()),
        (Some("discarded"), Some("ada"))
    );
    assert!(
        job.expires_at.is_some(),
        "it is archived once it is resolved, although it would never have expired"
    );
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn a_saga_that_can_still_compensate_does_so_when_its_dead_job_expires() {
    let (_database, pool, test) =
        open(StepFailures::only_at_pivot(), |builder| builder.dead_job_ttl(DAY)).await;
    let engine = &test.engine;
    let (saga_id, job) = dead_letter_at_pivot(&test).await;
    sql(&pool, "update engine.dead_job set expires_at = now()").await;
    assert_eq!(engine.expire_dead_jobs(10).await.unwrap(), 1);
    assert_eq!(engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(fixtures::effects(&pool, "pack").await, 0);
    let cause = cause(engine, saga_id).await.unwrap();
    let Cause::Cancelled { actor, reason, origin } = &cause else { panic!("{cause:?}") };
    assert_eq!(actor, "engine");
    assert!(
        reason.starts_with("no operator acted") && *origin == CancelOrigin::Expired && cause.is_given_up(),
        "{reason}"
    );
    let archived = engine.archived_dead_job(job.dead_job_id).await.unwrap().unwrap();
    assert_eq!(archived.dead_job.resolution, None);
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn a_saga_that_died_in_an_undo_never_expires_and_is_discarded_only_with_force() {
    let failures = StepFailures::all();
    failures.at_pivot.store(false, Ordering::Release);
    let (_database, pool, test) = open(failures.clone(), |builder| builder.dead_job_ttl(DAY)).await;
    let engine = &test.engine;
    let (first, first_job) = fail_in_undo(&test).await;
    let (second, second_job) = fail_in_undo(&test).await;
    assert_eq!((first_job.direction, first_job.expires_at), (Direction::Undo, None));

    let refused = engine.discard_dead_job(first_job.dead_job_id, DiscardMode::Safe, "ada", "old").await;
    let Err(error @ DeadJobError::NotUndone { .. }) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().contains("not undone: `pack`; retry it"), "{error}");
    // Also a dead job to which an older program gave an expiry.
    sql(&pool, "update engine.dead_job set expires_at = now()").await;
    assert_eq!(engine.expire_dead_jobs(10).await.unwrap(), 0);
    assert_eq!(dead_job(engine, first).await.expires_at, None, "it does not expire any more");
    let all = DeadJobFilter::default();
    let done = engine.discard_dead_jobs(&all, MANY, DiscardMode::Safe, "ada", "old").await.unwrap();
    let skipped: Vec<_> = done.skipped.iter().map(|(id, _)| *id).collect();
    assert_eq!(skipped, [first_job.dead_job_id, second_job.dead_job_id]);
    assert_eq!((done.done, done.failed), (vec![], vec![]));

    let by_hand = engine.discard_dead_job(first_job.dead_job_id, DiscardMode::Force, "ada", "undone by hand");
    assert_eq!(by_hand.await.unwrap().done().unwrap().effect, DiscardEffect::Abandon);
    let saga = engine.saga(first).await.unwrap().unwrap();
    assert!(saga.status == Status::Dead && saga.ended_at.is_some(), "{saga:?}");
    let cancelled = engine.cancel(first, "ada", "anyway").await;
    assert!(matches!(cancelled, Err(CancelError::Ended(Status::Dead))), "{cancelled:?}");

    failures.in_undo.store(false, Ordering::Release);
    engine.retry_dead_job(second_job.dead_job_id, "ada", "the cause is fixed").await.unwrap();
    assert_eq!(engine.wait(second, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(fixtures::effects(&pool, "pack").await, 1, "only the abandoned effect remains");
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn a_plan_is_carried_out_only_where_the_same_would_happen() {
    let (_database, pool, test) = open(StepFailures::only_at_pivot(), |builder| builder).await;
    let engine = &test.engine;
    let (_, first) = dead_letter_at_pivot(&test).await;
    let (second, second_job) = dead_letter_at_pivot(&test).await;
    let (all, force) = (DeadJobFilter::default(), DeadJobAction::Discard(DiscardMode::Force));
    // A process that lacks the code leaves it to one that has it, and is alive.
    let unaware = Engine::builder(pool.clone()).build().unwrap();
    let ignorant = unaware.plan_dead_jobs(&all, force, 1).await.unwrap();
    assert_eq!(ignorant.jobs[0].effect, Ok(DeadJobEffect::Requested), "{ignorant:?}");
    unaware.shutdown().await;
    // A plan that says something else than would happen now.
    let mut outdated = engine.plan_dead_jobs(&all, force, 1).await.unwrap();
    assert_eq!(outdated.jobs[0].dead_job_id, first.dead_job_id);
    outdated.jobs[0].effect = Ok(DeadJobEffect::Discarded(DiscardEffect::Abandon));
    let done = engine.carry_out(&outdated, WAIT_TIMEOUT, "ada", "old").await.unwrap();
    assert_eq!(done.done, []);
    assert_eq!(done.skipped, [(first.dead_job_id, "it changed since the plan was made".to_owned())]);

    let plan = engine.plan_dead_jobs(&all, force, 10).await.unwrap();
    assert!(
        plan.jobs
            .iter()
            .all(|job| job.effect == Ok(DeadJobEffect::Discarded(DiscardEffect::Compensate))
                && job.step == "seal"),
        "{plan:?}"
    );
    engine.discard_dead_job(first.dead_job_id, DiscardMode::Safe, "bob", "first").await.unwrap();
    let done = engine.carry_out(&plan, WAIT_TIMEOUT, "ada", "old").await.unwrap();
    assert_eq!((done.done, done.skipped), (vec![second_job.dead_job_id], vec![]), "bob's is left out");
    assert_eq!(engine.wait(second, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    test.close().await;
}

#[tokio::test]
async fn a_dead_saga_of_an_unknown_graph_is_left_to_processes_that_know_it() {
    let (_database, pool, test) =
        open(StepFailures::only_at_pivot(), |builder| builder.dead_job_ttl(DAY)).await;
    let (saga_id, _) = dead_letter_at_pivot(&test).await;
    let unaware = Engine::builder(pool.clone()).build().unwrap();
    sql(&pool, "update engine.dead_job set expires_at = now()").await;
    assert_eq!(unaware.expire_dead_jobs(10).await.unwrap(), 0);
    assert_eq!(unaware.compensate_overdue(10).await.unwrap(), 0);
    let waits = dead_job(&unaware, saga_id).await.expires_at.unwrap() - unaware.now().await.unwrap();
    assert!(waits.num_hours() >= 23, "{waits}");
    unaware.shutdown().await;
    test.close().await;
}

#[tokio::test]
async fn a_passed_deadline_compensates_a_dead_saga_before_its_pivot_only() {
    const HASTY: SagaName<TestInput> = SagaName::new("hasty-saga");
    let failures = StepFailures::only_at_pivot();
    let hasty = Saga::named(HASTY).deadline(Duration::from_hours(1));
    let hasty = hasty.then(Pack).pivot(Seal).then(File).build().unwrap();
    let (_database, pool, test) = open(failures.clone(), |builder| builder.register(hasty)).await;
    let engine = &test.engine;
    let started = engine.start(HASTY.with(&TestInput::default())).await.unwrap();
    let (before, job) = dead_letter_existing(&test, started.saga_id).await;
    assert_eq!(engine.compensate_overdue(10).await.unwrap(), 0, "its deadline has not passed");
    failures.at_pivot.store(false, Ordering::Release);
    let failing = HASTY.with(&TestInput::with("file", StepFault::SqlError));
    let (behind, ending) = engine.start_and_wait(failing, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);

    sql(&pool, "update engine.saga set deadline_at = now() - interval '1 second'").await;
    assert_eq!(engine.compensate_overdue(10).await.unwrap(), 1);
    assert_eq!(engine.wait(before, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(cause(engine, before).await, Some(Cause::DeadlinePassed));
    let job = engine.dead_job(job.dead_job_id).await.unwrap().unwrap();
    assert_eq!(job.resolution.map(DeadJobResolution::name), Some("deadline_passed"));
    let history = engine.history(before).await.unwrap().unwrap();
    assert!(history.iter().any(|entry| entry.outcome == HistoryOutcome::DeadlinePassed), "{history:?}");
    assert_eq!(engine.saga(behind.saga_id).await.unwrap().unwrap().status, Status::Dead);
    assert_eq!(engine.compensate_overdue(10).await.unwrap(), 0);
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

/// Refuses to let sagas with a certain input be retried or compensated.
struct RefusesActivation;

impl StatusObserver for RefusesActivation {
    async fn status_changed(&self, _: &mut Tx<'_>, changes: &[StatusChange]) -> Result<(), StepError> {
        let refuses =
            |change: &StatusChange| change.status.is_active() && change.input.get().contains("no-such-step");
        if changes.iter().any(refuses) {
            Err(StepError::Other("refused by the observer".into()))
        } else {
            Ok(())
        }
    }
}

#[tokio::test]
async fn a_dead_job_that_can_not_be_acted_on_does_not_block_the_others() {
    const OBSERVED: SagaName<TestInput> = SagaName::new("observed-saga");
    let failures = StepFailures::only_at_pivot();
    let saga = Saga::named(OBSERVED).then(Pack).pivot(Seal).observed_by(RefusesActivation).build().unwrap();
    let (_database, pool, test) =
        open(failures.clone(), |builder| builder.register(saga).dead_job_ttl(DAY)).await;
    let engine = &test.engine;
    let refused_job =
        engine.start(OBSERVED.with(&TestInput::with("no-such-step", StepFault::Panics))).await.unwrap();
    let (_, refused_job) = dead_letter_existing(&test, refused_job.saga_id).await;
    let (other, other_job) = dead_letter_at_pivot(&test).await;

    sql(&pool, "update engine.dead_job set expires_at = now() - interval '1 second'").await;
    assert_eq!(engine.expire_dead_jobs(1).await.unwrap(), 0, "the owner refuses");
    assert_eq!(
        engine.expire_dead_jobs(1).await.unwrap(),
        1,
        "and it is postponed, so it does not block the next"
    );
    assert!(engine.archived_dead_job(other_job.dead_job_id).await.unwrap().is_some());
    assert_eq!(engine.wait(other, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);

    let (third, third_job) = dead_letter_at_pivot(&test).await;
    failures.at_pivot.store(false, Ordering::Release);
    let single = engine.retry_dead_job(refused_job.dead_job_id, "ada", "again").await;
    assert!(matches!(single, Err(DeadJobError::RefusedByObserver(_))), "{single:?}");
    let BulkResult { done, failed, .. } =
        engine.retry_dead_jobs(&DeadJobFilter::default(), MANY, "ada", "again").await.unwrap();
    assert_eq!(done, [third_job.dead_job_id]);
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].0, refused_job.dead_job_id);
    assert!(failed[0].1.contains("refused by the observer"), "{failed:?}");
    assert_eq!(engine.wait(third, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    test.close().await;
}

#[tokio::test]
async fn a_bulk_action_ends_at_its_time_limit_and_the_next_one_continues() {
    let (_database, _pool, test) = open(StepFailures::only_at_pivot(), |builder| builder).await;
    let engine = &test.engine;
    for _ in 0..3 {
        dead_letter_at_pivot(&test).await;
    }
    let all = DeadJobFilter::default();
    let hasty = BulkLimits { max_jobs: 100, time_limit: Duration::ZERO };
    for left in [2, 1, 0] {
        let done = engine.discard_dead_jobs(&all, hasty, DiscardMode::Safe, "ada", "old").await.unwrap();
        assert_eq!((done.done.len(), &done.compensating), (1, &done.done));
        assert_eq!(engine.count_dead_jobs(&all).await.unwrap(), left);
    }
    test.close().await;
}

#[tokio::test]
async fn the_archive_is_pruned_after_its_retention() {
    let (_database, pool, test) = open(StepFailures::only_at_pivot(), |builder| {
        builder.dead_job_ttl(DAY).dead_job_archive_retention(DAY)
    })
    .await;
    let engine = &test.engine;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(dead_letter_at_pivot(&test).await.1.dead_job_id);
    }
    sql(&pool, "update engine.dead_job set expires_at = now()").await;
    assert_eq!(engine.expire_dead_jobs(10).await.unwrap(), 3);
    assert_eq!(engine.prune_dead_job_archive(10).await.unwrap(), 0);
    for (job, hours) in jobs.iter().zip([26, 25, 23]) {
        sqlx::query(
            "update engine.dead_job_archive set archived_at = now() - $2 * interval '1 hour' where id = $1",
        )
        .bind(job.0)
        .bind(hours)
        .execute(&pool)
        .await
        .unwrap();
    }
    assert_eq!(engine.prune_dead_job_archive(1).await.unwrap(), 1);
    assert!(engine.archived_dead_job(jobs[0]).await.unwrap().is_none(), "the oldest first");
    assert_eq!(engine.prune_dead_job_archive(10).await.unwrap(), 1);
    assert!(engine.archived_dead_job(jobs[2]).await.unwrap().is_some());
    let keeps_all = Engine::builder(pool.clone()).build().unwrap();
    sql(&pool, "update engine.dead_job_archive set archived_at = '2000-01-01'").await;
    assert_eq!(
        keeps_all.prune_dead_job_archive(10).await.unwrap(),
        0,
        "without a retention nothing is pruned"
    );
    keeps_all.shutdown().await;
    test.close().await;
}

#[tokio::test]
async fn a_saga_that_is_dead_lettered_and_cancelled_in_one_commit_notifies_observer_and_waiters() {
    const OBSERVED: SagaName<TestInput> = SagaName::new("observed-saga");
    struct RecordsStatus;
    impl StatusObserver for RecordsStatus {
        async fn status_changed(&self, tx: &mut Tx<'_>, changes: &[StatusChange]) -> Result<(), StepError> {
            for change in changes {
                sqlx::query("insert into effect (saga_id, step, change) values ($1, $2, 1)")
                    .bind(change.saga_id.0)
                    .bind(change.status.name())
                    .execute(&mut **tx)
                    .await?;
            }
            Ok(())
        }
    }
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(OBSERVED).then(Pack).pivot(Seal).observed_by(RecordsStatus).build().unwrap();
    let engine = Engine::builder(pool.clone()).register(saga).build().unwrap();
    let started = engine.start(OBSERVED.with(&TestInput::default())).await.unwrap();
    sql(&pool, "update engine.saga set lost_attempts = 5").await;
    let mut feed = engine.feed("default", 1);
    let job = tokio::time::timeout(WAIT_TIMEOUT, feed.recv()).await.unwrap().unwrap();
    engine.cancel(started.saga_id, "ada", "stop it").await.unwrap();
    let performed = engine.perform(&job).await;
    engine.commit(job, performed).await;
    let ending = engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Compensated);
    assert_eq!(fixtures::effects(&pool, "compensated").await, 1, "its observer was called");
    feed.close();
    engine.shutdown().await;
}
