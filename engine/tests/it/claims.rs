//! Leases and epochs: another process takes over what a dead one held, and later writes of the dead one are refused.

use std::{sync::Arc, time::Duration};

use engine::{Committed, Engine, Feed, HistoryOutcome, Job, Status, testing::expire_leases};

use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::Semaphore;

use super::fixtures::{self, ExternalWorld, FULL, PLAIN, TestEngine, TestInput};

use crate::support::WAIT_TIMEOUT;

pub(super) async fn next(feed: &mut Feed) -> Job {
    tokio::time::timeout(WAIT_TIMEOUT, feed.recv()).await.expect("a job arrives").expect("the feed is open")
}

#[tokio::test]
async fn a_stale_owner_is_refused_and_the_new_one_finishes() {
    let (_database, pool) = fixtures::database().await;
    let stale = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    // The feed has one slot, and the job fills it, so the stale process can't take over its own saga. This holds for
    // the other feeds with one slot in this file too.
    let mut feed = stale.feed("default", 1);
    let started = stale.start(PLAIN.with(&TestInput::default())).await.unwrap();
    let job = next(&mut feed).await;
    assert_eq!(job.epoch(), 1);

    // The stale process exceeds its lease; another process takes over and finishes.
    expire_leases(&pool, stale.worker()).await.unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(fixtures::plain_saga()));
    test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();

    let performed = stale.perform(&job).await;
    assert_eq!(stale.commit(job, performed).await, Committed::Lost);
    assert_eq!(fixtures::effects(&pool, "pack").await, 1);
    let history = test.engine.history(started.saga_id).await.unwrap().unwrap();
    assert_eq!(history[0].outcome, HistoryOutcome::Lost, "the takeover is in the history: {history:?}");
    assert_eq!((history[0].epoch, history[1].epoch), (1, 2));
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), []);
    feed.close();
    stale.shutdown().await;
    test.close().await;
}

#[tokio::test]
async fn a_call_lost_with_its_process_is_made_again_with_the_same_key() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let first = Engine::builder(pool.clone()).register(fixtures::full_saga(&world)).build().unwrap();
    let mut feed = first.feed("default", 1);
    let started = first.start(FULL.with(&TestInput::default())).await.unwrap();
    let job = next(&mut feed).await;
    let performed = first.perform(&job).await;
    assert_eq!(first.commit(job, performed).await, Committed::Applied);
    let call = next(&mut feed).await;
    assert_eq!(call.step(), "send");
    let _answer_that_is_never_committed = first.perform(&call).await;

    expire_leases(&pool, first.worker()).await.unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(fixtures::full_saga(&world)));
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    let keys = world.sent.lock().unwrap().clone();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
    drop(call);
    feed.close();
    first.shutdown().await;
    test.close().await;
}

#[tokio::test]
async fn a_cancel_while_a_lost_call_is_in_doubt_undoes_the_call() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let first = Engine::builder(pool.clone()).register(fixtures::full_saga(&world)).build().unwrap();
    let mut feed = first.feed("default", 1);
    let started = first.start(FULL.with(&TestInput::default())).await.unwrap();
    let job = next(&mut feed).await;
    let performed = first.perform(&job).await;
    first.commit(job, performed).await;
    let call = next(&mut feed).await;
    let _answer_that_is_never_committed = first.perform(&call).await;
    let answer = first.cancel(started.saga_id, "ada", "too slow").await.unwrap();
    assert_eq!(answer, engine::CancelOutcome::Requested);

    expire_leases(&pool, first.worker()).await.unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(fixtures::full_saga(&world)));
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Compensated);
    let sent = world.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 1, "a cancelled call is not made once more");
    assert_eq!(*world.taken_back.lock().unwrap(), sent, "the undo names the call's own key");
    assert_eq!(fixtures::effects(&pool, "pack").await, 0);
    drop(call);
    feed.close();
    first.shutdown().await;
    test.close().await;
}

#[tokio::test]
async fn a_saga_that_keeps_crashing_its_process_is_dead_lettered() {
    let (_database, pool) = fixtures::database().await;
    let mut dead = Vec::new();
    let caller = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let started = caller.start(PLAIN.with(&TestInput::default())).await.unwrap();
    for _ in 0..5 {
        let crashed = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
        let mut feed = crashed.feed("default", 1);
        // The process dies while it holds the job.
        let job = next(&mut feed).await;
        expire_leases(&pool, crashed.worker()).await.unwrap();
        dead.push((crashed, feed, job));
    }
    let test = TestEngine::build(Engine::builder(pool).register(fixtures::plain_saga()));
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Dead);
    let history = test.engine.history(started.saga_id).await.unwrap().unwrap();
    let lost = history.iter().filter(|entry| entry.outcome == HistoryOutcome::Lost).count();
    assert_eq!(lost, 5, "{history:?}");
    assert_eq!(history.last().unwrap().outcome, HistoryOutcome::DeadLettered);
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), []);
    drop(dead);
    caller.shutdown().await;
    test.close().await;
}

#[tokio::test]
async fn closing_a_feed_releases_unstarted_jobs_at_once() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let mut feed = engine.feed("default", 64);
    for _ in 0..20 {
        engine.start(PLAIN.with(&TestInput::default())).await.unwrap();
    }
    feed.close();
    feed.closed().await;
    let (leased, attempts): (i64, i64) =
        sqlx::query_as("select count(lease_owner), sum(attempt) from engine.saga")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!((leased, attempts), (0, 0), "free, and no attempt is counted");
    engine.shutdown().await;
}

/// Locks one of the sagas for as long as the transaction is open.
async fn lock_one(pool: &PgPool) -> Transaction<'static, Postgres> {
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("select id from engine.saga limit 1 for update").execute(&mut *transaction).await.unwrap();
    transaction
}

async fn leased(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(lease_owner) from engine.saga").fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_locked_saga_does_not_keep_other_claims_from_being_released() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone())
        .register(fixtures::plain_saga())
        .lease(Duration::from_hours(1))
        .build()
        .unwrap();
    let mut feed = engine.feed("default", 64);
    for _ in 0..20 {
        engine.start(PLAIN.with(&TestInput::default())).await.unwrap();
    }
    let lock = lock_one(&pool).await;
    feed.close();
    feed.closed().await;
    assert_eq!(leased(&pool).await, 1, "only the locked one is still claimed");
    lock.rollback().await.unwrap();
    while leased(&pool).await > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let attempts: i64 =
        sqlx::query_scalar("select sum(attempt) from engine.saga").fetch_one(&pool).await.unwrap();
    assert_eq!(attempts, 0, "no attempt is counted");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_shutdown_tries_to_release_a_locked_saga_again() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone())
        .register(fixtures::plain_saga())
        .lease(Duration::from_hours(1))
        .build()
        .unwrap();
    let mut feed = engine.feed("default", 64);
    for _ in 0..20 {
        engine.start(PLAIN.with(&TestInput::default())).await.unwrap();
    }
    let lock = lock_one(&pool).await;
    let unlock = async {
        while leased(&pool).await > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        lock.rollback().await.unwrap();
    };
    feed.close();
    futures::future::join(engine.shutdown(), unlock).await;
    assert_eq!(leased(&pool).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_extended_during_a_call_that_takes_longer() {
    use engine::{CallError, CallStep, Item, NothingToUndo, Outcome, RetryPolicy, Saga, SagaName};
    const SLOW: SagaName<TestInput> = SagaName::new("slow");
    struct Slow(Arc<Semaphore>);
    impl CallStep for Slow {
        const NAME: &'static str = "slow-call";
        const RETRY: RetryPolicy = RetryPolicy { timeout: WAIT_TIMEOUT, ..RetryPolicy::CALL };
        type Input = TestInput;
        type Output = ();
        type Undo = NothingToUndo;
        async fn call(&self, _: &Item<TestInput>) -> Result<Outcome<()>, CallError> {
            self.0.acquire().await.unwrap().forget();
            Ok(Outcome::Done(()))
        }
    }
    let answers = Arc::new(Semaphore::new(0));
    let slow = || Saga::named(SLOW).then_call(Slow(answers.clone())).build().unwrap();
    let (_database, pool) = fixtures::database().await;
    // The lease is long enough that a slow machine extends the lease in time.
    let lease = Duration::from_secs(6);
    let builder = || Engine::builder(pool.clone()).lease(lease).poll(Duration::from_millis(50));
    let one = TestEngine::build(builder().register(slow()));
    let two = TestEngine::build(builder().register(slow()));
    let saga_id = one.engine.start(SLOW.with(&TestInput::default())).await.unwrap().saga_id;
    // The call is answered after the end of the first lease.
    let outlasted = "select claimed_at + $2 * interval '1 ms' < now() from engine.saga where id = $1 and claimed_at is not null";
    while sqlx::query_scalar::<_, bool>(outlasted)
        .bind(saga_id.0)
        .bind(i64::try_from(lease.as_millis()).unwrap())
        .fetch_optional(&pool)
        .await
        .unwrap()
        != Some(true)
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    answers.add_permits(1);
    let ending = one.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    let history = one.engine.history(saga_id).await.unwrap().unwrap();
    assert_eq!(history.len(), 1, "no process took it over: {history:?}");
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn two_engines_share_the_load_and_every_step_takes_effect_once() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    world.answers.send_replace(false);
    let engines: Vec<_> = (0..2)
        .map(|_| TestEngine::build(Engine::builder(pool.clone()).register(fixtures::full_saga(&world))))
        .collect();
    let caller = Engine::builder(pool.clone()).register(fixtures::full_saga(&world)).build().unwrap();
    let runs = (0..300).map(|_| caller.start_and_wait(FULL.with(&TestInput::default()), WAIT_TIMEOUT));
    // While no call is answered, an engine holds no more sagas than its feed has slots (256 in `TestEngine`), so the
    // other engine claims the rest.
    let both = async {
        let owners = "select count(distinct lease_owner) from engine.saga";
        while sqlx::query_scalar::<_, i64>(owners).fetch_one(&pool).await.unwrap() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.answers.send_replace(true);
    };
    let (runs, ()) = futures::future::join(futures::future::join_all(runs), both).await;
    for run in runs {
        assert_eq!(run.unwrap().1.unwrap().status, Status::Completed);
    }
    for step in ["pack", "charge", "seal", "file"] {
        assert_eq!(fixtures::effects(&pool, step).await, 300, "{step}");
    }
    let workers: i64 = sqlx::query_scalar("select count(distinct worker) from engine.history")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(workers, 2, "both engines worked on sagas");
    assert_eq!(caller.verify_histories(1000).await.unwrap(), []);
    caller.shutdown().await;
    for test in engines {
        test.close().await;
    }
}

#[tokio::test]
async fn a_call_pivot_in_doubt_keeps_its_backoff_after_the_deadline() {
    use engine::{CallError, CallStep, ForwardOnly, Item, Outcome, Retry, Saga, SagaName};
    const PAY: SagaName<TestInput> = SagaName::new("pay");
    struct Pay;
    impl CallStep for Pay {
        const NAME: &'static str = "pay";
        type Input = TestInput;
        type Output = ();
        type Undo = ForwardOnly;
        async fn call(&self, _: &Item<TestInput>) -> Result<Outcome<()>, CallError> {
            Ok(Outcome::Retry(Retry::message("no answer").after(Duration::from_hours(1))))
        }
    }
    let (_database, pool) = fixtures::database().await;
    let pay = Saga::named(PAY).deadline(Duration::from_hours(1)).pivot_call(Pay).build().unwrap();
    let engine = Engine::builder(pool.clone()).register(pay).build().unwrap();
    let mut feed = engine.feed("default", 1);
    let started = engine.start(PAY.with(&TestInput::default())).await.unwrap();
    let job = next(&mut feed).await;
    let performed = engine.perform(&job).await;
    sqlx::query("update engine.saga set deadline_at = now()").execute(&pool).await.unwrap();
    assert_eq!(engine.commit(job, performed).await, Committed::Applied);
    let saga = engine.saga(started.saga_id).await.unwrap().unwrap();
    // A payment that may have happened can't be undone, so the deadline has no effect any more.
    assert_eq!(saga.status, Status::Running);
    let wait = saga.due_at.unwrap() - engine.now().await.unwrap();
    assert!(wait.num_minutes() > 30, "{wait}");
    feed.close();
    engine.shutdown().await;
}
