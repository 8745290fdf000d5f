//! What sagas give when they have completed, and when they begin.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use engine::{
    Batch, Cause, Definition, Engine, ForwardOnly, Outcome, Outcomes, Saga, SagaName, StartError, Status,
    StatusChange, StatusObserver, StepError, TransactionStep, Tx, testing::end_waits,
};
use serde_json::json;

use super::fixtures::{self, Pack, Packed, Seal, StepFault, TestEngine, TestInput};
use crate::support::WAIT_TIMEOUT;

const LONG: Duration = Duration::from_hours(72);
const PACKS: SagaName<TestInput, Packed> = SagaName::new("packs");
const COUNTS: SagaName<TestInput, u64> = SagaName::new("counts");

/// Keeps the results that it was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Option<String>>>>);

impl StatusObserver for Told {
    async fn status_changed(&self, _: &mut Tx<'_>, changes: &[StatusChange]) -> Result<(), StepError> {
        let results = changes.iter().map(|change| change.result.as_ref().map(|json| json.get().to_owned()));
        self.0.lock().unwrap().extend(results);
        Ok(())
    }
}

fn packs(told: &Told) -> Definition {
    Saga::named(PACKS).then(Pack).returns_output().pivot(Seal).observed_by(told.clone()).build().unwrap()
}

fn counts(count: impl Fn(&Packed) -> u64 + Send + Sync + 'static) -> Definition {
    Saga::named(COUNTS).then(Pack).pivot(Seal).returns(count).build().unwrap()
}

#[tokio::test]
async fn a_saga_gives_the_output_of_a_step_or_what_is_computed_from_one() {
    let (_database, pool) = fixtures::database().await;
    let told = Told::default();
    let builder = Engine::builder(pool.clone()).register(packs(&told));
    let test = TestEngine::build(builder.register(counts(|packed| u64::from(packed.boxes) * 10)));
    let input = TestInput::default();
    let (packed, ending) = test.engine.start_and_wait(PACKS.with(&input), WAIT_TIMEOUT).await.unwrap();
    let result = PACKS.result(&ending.unwrap()).unwrap();
    assert_eq!(result.map(|packed| packed.boxes), Some(2));
    let (_, ending) = test.engine.start_and_wait(COUNTS.with(&input), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(COUNTS.result(&ending.unwrap()).unwrap(), Some(20));
    assert_eq!(told.0.lock().unwrap().as_slice(), [Some(r#"{"boxes":2}"#.to_owned())]);

    let later = test.engine.wait(packed.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(later.result, Some(json!({"boxes": 2})), "it is stored");
    let stored = test.engine.saga_with_payload(packed.saga_id).await.unwrap().unwrap();
    assert_eq!(stored.result, Some(json!({"boxes": 2})));
    assert!(COUNTS.result(&later).is_err(), "of another type");

    let failed = TestInput::with("seal", StepFault::Fails);
    let (_, ending) = test.engine.start_and_wait(PACKS.with(&failed), WAIT_TIMEOUT).await.unwrap();
    let ending = ending.unwrap();
    assert_eq!((ending.status, &ending.result), (Status::Compensated, &None));
    assert_eq!(told.0.lock().unwrap().last(), Some(&None));
    test.close().await;
}

#[tokio::test]
async fn an_end_in_another_process_comes_with_its_result() {
    let (_database, pool) = fixtures::database().await;
    let working = TestEngine::build(Engine::builder(pool.clone()).register(packs(&Told::default())));
    let other = Engine::builder(pool).register(packs(&Told::default())).build().unwrap();
    for _ in 0..3 {
        let (_, ending) =
            other.start_and_wait(PACKS.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(PACKS.result(&ending.unwrap()).unwrap().map(|packed| packed.boxes), Some(2));
    }
    other.shutdown().await;
    working.close().await;
}

#[tokio::test]
async fn a_result_that_can_not_be_made_leaves_the_saga_completed_and_says_so() {
    let (_database, pool) = fixtures::database().await;
    let panics = counts(|packed| panic!("{} boxes are too many", packed.boxes));
    let test = TestEngine::build(Engine::builder(pool).register(panics));
    let (started, ending) =
        test.engine.start_and_wait(COUNTS.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    let ending = ending.unwrap();
    assert_eq!((ending.status, &ending.result), (Status::Completed, &None));
    let error = test.engine.saga(started.saga_id).await.unwrap().unwrap().error.unwrap();
    assert_eq!(error, "it completed without its result: what computes it panicked: 2 boxes are too many");
    assert!(test.engine.verify_histories(9).await.unwrap().is_empty());
    test.close().await;
}

/// A saga that is completed by its entry step.
struct Enter;

impl TransactionStep for Enter {
    const NAME: &'static str = "enter";
    type Input = TestInput;
    type Output = String;
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<String>, StepError> {
        Ok(batch.decide(|_| Outcome::Done("entered".into())))
    }
}

#[tokio::test]
async fn a_saga_that_its_entry_step_completes_gives_its_result_at_once() {
    const ENTERS: SagaName<TestInput, String> = SagaName::new("enters");
    const FAILS: SagaName<TestInput, String> = SagaName::new("fails");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(ENTERS).entry_pivot(Enter).returns_output().build().unwrap();
    let fails = Saga::named(FAILS).entry_pivot(Enter).returns(|entered: &String| panic!("not {entered}"));
    let builder = Engine::builder(pool).register(saga).register(fails.build().unwrap());
    let engine = builder.build().unwrap();
    let (started, ending) =
        engine.start_and_wait(ENTERS.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ENTERS.result(&ending.unwrap()).unwrap().as_deref(), Some("entered"));
    let stored = engine.saga_with_payload(started.saga_id).await.unwrap().unwrap();
    assert_eq!(stored.result, Some(json!("entered")));
    let (started, ending) =
        engine.start_and_wait(FAILS.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().result, None);
    let error = engine.saga(started.saga_id).await.unwrap().unwrap().error.unwrap();
    assert_eq!(error, "it completed without its result: what computes it panicked: not entered");
    // One that its entry step completes is not delayed.
    let delayed = engine.start(ENTERS.with(&TestInput::default()).delay(LONG)).await.unwrap();
    assert_eq!(engine.saga(delayed.saga_id).await.unwrap().unwrap().status, Status::Completed);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_saga_begins_at_its_time_and_its_deadline_counts_from_then_on() {
    let (_database, pool) = fixtures::database().await;
    let deadline = LONG / 2;
    let saga = Saga::named(PACKS).deadline(LONG).then(Pack).returns_output().sleep("rest", deadline / 2);
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga.pivot(Seal).build().unwrap()));
    let new = || PACKS.with(&TestInput::default());
    let now = test.engine.now().await.unwrap();
    let at = now + LONG;
    let delayed = test.engine.start(new().start_at(at).deadline(deadline)).await.unwrap().saga_id;
    let after = test.engine.start(new().delay(LONG)).await.unwrap().saga_id;
    let past = test.engine.start(new().start_at(now - LONG)).await.unwrap().saga_id;
    let times = [new().delay(Duration::MAX), new().deadline(Duration::MAX), new().deadline(deadline / 2)];
    for bad in times {
        assert!(matches!(test.engine.start(bad).await, Err(StartError::BadInput { .. })));
    }
    let saga = async |id| test.engine.saga(id).await.unwrap().unwrap();
    let first = saga(delayed).await;
    assert_eq!(
        (first.waits_for.as_deref(), first.due_at, first.lease_owner),
        (Some("sleep"), Some(at), None)
    );
    let near = |time: Option<DateTime<Utc>>, wanted: DateTime<Utc>| {
        (time.unwrap() - wanted).num_seconds().abs() < 60
    };
    assert!(near(first.deadline_at, at + deadline), "{first:?}");
    assert!(near(saga(after).await.due_at, at) && near(saga(after).await.deadline_at, at + LONG));
    fixtures::holds(
        &pool,
        &format!("select step = 'rest' and waits_for = 'sleep' from engine.saga where id = '{past}'"),
    )
    .await;
    assert_eq!(fixtures::effects(&pool, "pack").await, 1, "only the last has begun");

    // The first wait that is a step is not taken for over with the delay.
    end_waits(&pool).await.unwrap();
    fixtures::holds(
        &pool,
        "select count(*) = 2 from engine.saga where step = 'rest' and waits_for = 'sleep'",
    )
    .await;
    test.engine.wait(past, WAIT_TIMEOUT).await.unwrap().unwrap();
    end_waits(&pool).await.unwrap();
    for id in [delayed, after] {
        assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    }
    assert!(test.engine.verify_histories(9).await.unwrap().is_empty());
    test.close().await;
}

#[tokio::test]
async fn a_delay_before_a_wait_is_not_its_time_and_an_operator_ends_it() {
    const SLEEPS: SagaName<TestInput> = SagaName::new("sleeps");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(SLEEPS).sleep("rest", LONG).then(Pack).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga));
    let id = test.engine.start(SLEEPS.with(&TestInput::default()).delay(LONG)).await.unwrap().saga_id;
    test.engine.skip_wait(id, "ops", "at once").await.unwrap();
    fixtures::holds(
        &pool,
        "select waits_for = 'sleep' and wait_until > now() + interval '2 days' from engine.saga",
    )
    .await;
    test.engine.skip_wait(id, "ops", "at once").await.unwrap();
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    test.close().await;
}

#[tokio::test]
async fn a_saga_is_cancelled_while_its_start_is_delayed_and_takes_no_signal_before() {
    const BILL: SagaName<TestInput> = SagaName::new("delayed-bill");
    const PAID: engine::SignalName<u8> = engine::SignalName::new("paid");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(BILL).pivot_signal("await-payment", PAID.within(LONG)).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga));
    let start = BILL.with(&TestInput::default()).delay(LONG).signal(PAID.with(&1));
    let id = test.engine.start(start).await.unwrap().saga_id;
    test.engine.cancel(id, "ada", "changed my mind").await.unwrap();
    let ending = test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert!(matches!(ending.cause, Some(Cause::Cancelled { .. })), "{ending:?}");
    test.close().await;
}
