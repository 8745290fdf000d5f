//! Starting sagas: durable, idempotent by business key, in the caller's transaction, refused by an entry step.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use engine::{
    Batch, Definition, Engine, Failure, NewSaga, NothingToUndo, Outcome, Outcomes, RetryPolicy, Saga,
    SagaName, Shared, StartError, Status, StepError, TransactionStep, Tx,
};
use serde_json::json;

use super::fixtures::{self, PLAIN, TestEngine, TestInput};

use crate::support::WAIT_TIMEOUT;

const LEDGER: SagaName<Entry> = SagaName::new("ledger");

#[derive(Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Entry {
    amount: i64,
}

/// The amount at which the entry step hangs.
const HANGS: i64 = 600;

/// An entry step: refuses negative amounts.
struct Book;

impl TransactionStep for Book {
    const NAME: &'static str = "book";
    const RETRY: RetryPolicy = RetryPolicy { timeout: Duration::from_secs(2), ..fixtures::QUICK };
    type Input = Entry;
    type Output = i64;
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Entry>) -> Result<Outcomes<i64>, StepError> {
        if batch.iter().any(|item| item.input.amount == HANGS) {
            sqlx::query("select pg_sleep(600)").execute(&mut **tx).await?;
        }
        let ids: Vec<_> =
            batch.iter().filter(|item| item.input.amount >= 0).map(|item| item.saga_id.0).collect();
        sqlx::query("insert into effect select id, 'book', 1 from unnest($1::uuid[]) as i (id)")
            .bind(ids)
            .execute(&mut **tx)
            .await?;
        Ok(batch.decide(|item| match item.input.amount {
            0.. => Outcome::Done(item.input.amount),
            _ => Outcome::fail("negative", "amounts are not negative"),
        }))
    }
}

struct Close;

impl TransactionStep for Close {
    const NAME: &'static str = "close";
    type Input = (Entry, i64);
    type Output = ();
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<()>, StepError> {
        Ok(batch.decide(|item| {
            assert_eq!(item.input.0.amount, item.input.1);
            Outcome::Done(())
        }))
    }
}

fn ledger() -> Definition {
    Saga::named(LEDGER).entry(Book).then(Close).build().unwrap()
}

#[tokio::test]
async fn concurrent_starts_with_one_business_key_start_one_saga() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool).register(fixtures::plain_saga()).build().unwrap();
    let start = || engine.start(PLAIN.with(&TestInput::default()).business_key("order-7"));
    let started: Vec<_> =
        futures::future::join_all((0..50).map(|_| start())).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(started.iter().filter(|started| !started.existing).count(), 1);
    assert!(started.iter().all(|other| other.saga_id == started[0].saga_id));
    let again = start().await.unwrap();
    assert!(again.existing && again.saga_id == started[0].saga_id);
    engine.shutdown().await;
}

#[tokio::test]
async fn two_engines_that_race_for_a_business_key_return_the_same_saga() {
    let (_database, pool) = fixtures::database().await;
    let engines: Vec<_> = (0..2)
        .map(|_| Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap())
        .collect();
    for round in 0..20 {
        let starts = engines.iter().map(|engine| {
            engine.start(PLAIN.with(&TestInput::default()).business_key(format!("key-{round}")))
        });
        let started = futures::future::join_all(starts).await;
        let ids: Vec<_> = started.iter().map(|started| started.as_ref().unwrap().saga_id).collect();
        assert_eq!(ids[0], ids[1]);
    }
    for engine in engines {
        engine.shutdown().await;
    }
}

#[tokio::test]
async fn a_start_in_a_transaction_that_is_rolled_back_leaves_nothing() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let started = engine.start_in(&mut transaction, vec![PLAIN.with(&TestInput::default())]).await.unwrap();
    let saga_id = started[0].as_ref().unwrap().saga_id;
    transaction.rollback().await.unwrap();
    assert!(engine.saga(saga_id).await.unwrap().is_none());
    assert!(engine.history(saga_id).await.unwrap().is_none());
    engine.shutdown().await;
}

#[tokio::test]
async fn an_entry_step_takes_effect_in_the_commit_that_starts_the_saga() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(ledger()).build().unwrap();
    let started = engine.start(LEDGER.with(&Entry { amount: 5 })).await.unwrap();
    // There is no worker: the effect can only come from the start.
    assert_eq!(fixtures::effects(&pool, "book").await, 1);
    assert_eq!(engine.saga(started.saga_id).await.unwrap().unwrap().step, "close");
    let test = TestEngine::start(engine);
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn a_start_refused_by_its_entry_step_leaves_nothing_and_does_not_affect_others() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(ledger()).build().unwrap();
    let starts = [1, -1, 2].map(|amount| engine.start(LEDGER.with(&Entry { amount })));
    let started = futures::future::join_all(starts).await;
    assert!(started[0].is_ok() && started[2].is_ok());
    assert!(
        matches!(&started[1], Err(StartError::Refused(failure)) if failure.code == "negative"),
        "{started:?}"
    );
    let sagas: i64 = sqlx::query_scalar("select count(*) from engine.saga").fetch_one(&pool).await.unwrap();
    assert_eq!((sagas, fixtures::effects(&pool, "book").await), (2, 2));
    let refused = engine.start(LEDGER.with(&Entry { amount: -1 })).await;
    assert!(matches!(refused, Err(StartError::Refused(_))), "{refused:?}");
    let left = "select count(*) from engine.start_batch b where not exists ( \
         select from engine.saga s where s.id = any (b.saga_ids))";
    let batches_left: i64 = sqlx::query_scalar(left).fetch_one(&pool).await.unwrap();
    assert_eq!(batches_left, 0, "a batch outlives its refused start");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_duplicate_of_a_refused_start_in_the_same_batch_is_refused_too() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(ledger()).build().unwrap();
    let starts = [-1, -1].map(|amount| engine.start(LEDGER.with(&Entry { amount }).business_key("k")));
    for started in futures::future::join_all(starts).await {
        assert!(matches!(&started, Err(StartError::Refused(_))), "{started:?}");
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn an_entry_step_that_hangs_fails_only_its_own_start() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(ledger()).build().unwrap();
    let starts = [1, 2, HANGS, 3].map(|amount| engine.start(LEDGER.with(&Entry { amount })));
    let started = futures::future::join_all(starts).await;
    let fine: Vec<bool> = started.iter().map(Result::is_ok).collect();
    assert_eq!(fine, [true, true, false, true], "{started:?}");
    assert!(matches!(&started[2], Err(StartError::Unavailable(_))), "{started:?}");
    let waiting: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(waiting, 0, "the statement of the cancelled step is terminated");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_start_whose_caller_is_gone_before_its_batch_is_not_made() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    // The test has one thread, so the batch is collected after the drop.
    let mut gone = Box::pin(engine.start(PLAIN.with(&TestInput::default())));
    assert!(futures::poll!(&mut gone).is_pending());
    drop(gone);
    let stays = engine.start(PLAIN.with(&TestInput::default())).await.unwrap();
    let sagas: Vec<uuid::Uuid> =
        sqlx::query_scalar("select id from engine.saga").fetch_all(&pool).await.unwrap();
    assert_eq!(sagas, [stays.saga_id.0]);
    engine.shutdown().await;
}

#[tokio::test]
async fn input_that_does_not_fit_is_refused_with_the_field() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool).register(fixtures::plain_saga()).build().unwrap();
    let wrong = NewSaga::untyped("plain-saga", &json!({ "at": 7 }));
    let error = engine.start(wrong).await.unwrap_err();
    assert!(matches!(&error, StartError::BadInput { pointer, .. } if pointer == "/at"), "{error}");
    let unknown = NewSaga::untyped("no-such-saga", &json!({}));
    assert!(matches!(engine.start(unknown).await, Err(StartError::UnknownDefinition(_))));
    let nul = NewSaga::untyped("plain-saga", &json!({ "at": "a\u{0}b" }));
    assert!(matches!(engine.start(nul).await, Err(StartError::BadInput { .. })));
    engine.shutdown().await;
}

#[tokio::test]
async fn an_input_that_its_definition_refuses_stores_nothing_whether_typed_or_not() {
    let (_database, pool) = fixtures::database().await;
    let small = |entry: &Entry| match entry.amount {
        ..=100 => Ok(()),
        amount => Err(Failure::new("too-much", format!("{amount} is more than 100"))),
    };
    let saga = Saga::named(LEDGER).check_input(small).entry(Book).then(Close).build().unwrap();
    let engine = Engine::builder(pool.clone()).register(saga).build().unwrap();
    for refused in [LEDGER.with(&Entry { amount: 101 }), NewSaga::untyped("ledger", &json!({"amount": 101}))]
    {
        let error = engine.start(refused).await.unwrap_err();
        assert!(matches!(&error, StartError::Refused(failure) if failure.code == "too-much"), "{error}");
    }
    engine.start(NewSaga::untyped("ledger", &json!({"amount": 100}))).await.unwrap();
    let sagas: i64 = sqlx::query_scalar("select count(*) from engine.saga").fetch_one(&pool).await.unwrap();
    assert_eq!((sagas, fixtures::effects(&pool, "book").await), (1, 1));
}

#[tokio::test]
async fn a_wrong_input_is_refused_without_a_database() {
    let unreachable = sqlx::PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap();
    let saga = Saga::named(LEDGER)
        .check_input(|_| Err(Failure::new("closed", "the ledger is closed")))
        .entry(Book)
        .then(Close);
    let engine = Engine::builder(unreachable).register(saga.build().unwrap()).build().unwrap();
    let refused = engine.start(LEDGER.with(&Entry { amount: 1 })).await;
    assert!(matches!(&refused, Err(StartError::Refused(failure)) if failure.code == "closed"), "{refused:?}");
}

/// Counts how often a [`Tracked`] is decoded, in this test program.
static DECODED: AtomicUsize = AtomicUsize::new(0);

const TRACKED: SagaName<Tracked> = SagaName::new("tracked");

#[derive(serde::Serialize, schemars::JsonSchema)]
struct Tracked {
    amount: i64,
}

impl<'de> serde::Deserialize<'de> for Tracked {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DECODED.fetch_add(1, Ordering::SeqCst);
        Entry::deserialize(deserializer).map(|Entry { amount }| Self { amount })
    }
}

/// A step that reads the input without a copy of its own.
struct Read<const NUMBER: usize>;

impl<const NUMBER: usize> TransactionStep for Read<NUMBER> {
    const NAME: &'static str = ["first", "second", "third"][NUMBER];
    type Input = Shared<Tracked>;
    type Output = i64;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<i64>, StepError> {
        Ok(batch.decide(|item| Outcome::Done(item.input.amount)))
    }
}

#[tokio::test]
async fn steps_that_share_the_input_decode_it_once_a_process() {
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(TRACKED).check_input(|_| Ok(())).entry(Read::<0>).then(Read::<1>).then(Read::<2>);
    let engine = Engine::builder(pool).register(saga.build().unwrap()).build().unwrap();
    let started = engine.start(TRACKED.with(&Tracked { amount: 7 })).await.unwrap();
    assert_eq!(DECODED.load(Ordering::SeqCst), 1, "checked, and read by the entry step");
    // Its queue has no worker yet, so a worker claims it from the database, as one of another process would.
    let test = TestEngine::start(engine);
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    assert_eq!(DECODED.load(Ordering::SeqCst), 2);
    test.close().await;
}

#[tokio::test]
async fn a_waiter_is_notified_of_an_end_in_another_process() {
    let (_database, pool) = fixtures::database().await;
    let caller = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool).register(fixtures::plain_saga()));
    let (_, ending) = caller.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    caller.shutdown().await;
    test.close().await;
}
