//! Inputs, outputs and errors have a limit: what is larger is refused or cut, and nothing is tried again because of it.

use engine::{
    Batch, CallError, CallStep, Cause, DeadJobFilter, Definition, Engine, EngineBuilder, ForwardOnly,
    HistoryOutcome, Item, ItemStep, NewSaga, NothingToUndo, Outcome, Outcomes, Page, PerItem, Retry,
    RetryPolicy, Saga, SagaId, SagaName, StartError, Status, StepError, TransactionStep, Tx, UndoCall,
    UndoItem, UndoOutcome,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgPool;

use super::fixtures::{self, ExternalWorld, TestEngine};
use crate::support::WAIT_TIMEOUT;

const SIZED: SagaName<Size> = SagaName::new("sized");
const LIMIT: usize = 1000;

/// How many bytes of text an output has, beside its quotes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Size {
    output: usize,
    padding: String,
}

fn output_of(output: usize) -> Size {
    Size { output, padding: String::new() }
}

/// An output of this size is too large.
const TOO_LARGE: usize = LIMIT;
/// An output of this size is as large as it may be.
const LARGE: usize = LIMIT - 2;

async fn write(tx: &mut Tx<'_>, saga_id: SagaId) -> Result<(), sqlx::Error> {
    sqlx::query("insert into effect (saga_id, step, change) values ($1, 'make', 1)")
        .bind(saga_id.0)
        .execute(&mut **tx)
        .await
        .map(drop)
}

struct MakeBatch;

impl TransactionStep for MakeBatch {
    const NAME: &'static str = "make";
    const RETRY: RetryPolicy = fixtures::QUICK;
    type Input = Size;
    type Output = String;
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Size>) -> Result<Outcomes<String>, StepError> {
        for item in batch {
            write(tx, item.saga_id).await?;
        }
        Ok(batch.decide(|item| Outcome::Done("x".repeat(item.input.output))))
    }
}

struct MakeOne;

impl ItemStep for MakeOne {
    const NAME: &'static str = "make";
    const RETRY: RetryPolicy = fixtures::QUICK;
    type Input = Size;
    type Output = String;
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, item: &Item<Size>) -> Result<Outcome<String>, StepError> {
        write(tx, item.saga_id).await?;
        Ok(Outcome::Done("x".repeat(item.input.output)))
    }
}

/// As [`MakeBatch`], for the pivot and the steps after it.
struct MakeForward;

impl TransactionStep for MakeForward {
    const NAME: &'static str = "make-forward";
    const RETRY: RetryPolicy = fixtures::QUICK;
    type Input = Size;
    type Output = String;
    type Undo = ForwardOnly;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Size>) -> Result<Outcomes<String>, StepError> {
        MakeBatch.run(tx, batch).await
    }
}

struct Note;

impl TransactionStep for Note {
    const NAME: &'static str = "note";
    type Input = Size;
    type Output = u32;
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Size>) -> Result<Outcomes<u32>, StepError> {
        Ok(batch.decide(|_| Outcome::Done(0)))
    }
}

struct Fetch(ExternalWorld);

impl CallStep for Fetch {
    const NAME: &'static str = "fetch";
    const RETRY: RetryPolicy = fixtures::QUICK;
    type Input = Size;
    type Output = String;
    type Undo = Self;

    async fn call(&self, item: &Item<Size>) -> Result<Outcome<String>, CallError> {
        self.0.sent.lock().unwrap().push(item.idempotency_key.clone());
        Ok(Outcome::Done("x".repeat(item.input.output)))
    }
}

impl UndoCall<Fetch> for Fetch {
    async fn undo(step: &Fetch, item: &UndoItem<Size, Option<String>>) -> Result<UndoOutcome, CallError> {
        assert!(item.output.is_none(), "the call is in doubt");
        step.0.taken_back.lock().unwrap().push(item.action_key.clone());
        Ok(UndoOutcome::Done)
    }
}

struct FetchForward(ExternalWorld);

impl CallStep for FetchForward {
    const NAME: &'static str = "fetch-forward";
    const RETRY: RetryPolicy = fixtures::QUICK;
    type Input = Size;
    type Output = String;
    type Undo = ForwardOnly;

    async fn call(&self, item: &Item<Size>) -> Result<Outcome<String>, CallError> {
        Fetch(self.0.clone()).call(item).await
    }
}

/// Starts a saga of the same kind with a large input.
struct StartLarge;

impl TransactionStep for StartLarge {
    const NAME: &'static str = "start-large";
    const RETRY: RetryPolicy = fixtures::QUICK;
    type Input = Size;
    type Output = u32;
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Size>) -> Result<Outcomes<u32>, StepError> {
        tx.start(vec![SIZED.with(&Size { output: 0, padding: "x".repeat(LIMIT) })]).await?;
        Ok(batch.decide(|_| Outcome::Done(0)))
    }
}

fn builder(pool: &PgPool, definition: Definition) -> EngineBuilder {
    Engine::builder(pool.clone()).max_payload(LIMIT).register(definition)
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Runs sagas in one batch, and returns where each ended.
async fn run_together(
    pool: &PgPool,
    definition: Definition,
    outputs: &[usize],
) -> (TestEngine, Vec<(SagaId, Status)>) {
    let engine = builder(pool, definition).build().unwrap();
    let sagas: Vec<NewSaga> = outputs.iter().map(|output| SIZED.with(&output_of(*output))).collect();
    let mut transaction = pool.begin().await.unwrap();
    engine.start_in(&mut transaction, sagas.clone()).await.unwrap();
    transaction.commit().await.unwrap();
    let test = TestEngine::start(engine);
    let mut ends = Vec::new();
    for saga in &sagas {
        let ending = test.engine.wait(saga.saga_id(), WAIT_TIMEOUT).await.unwrap().expect("every saga ends");
        ends.push((saga.saga_id(), ending.status));
    }
    assert_eq!(test.engine.verify_histories(1000).await.unwrap(), []);
    (test, ends)
}

fn code(cause: Option<Cause>) -> String {
    let Some(Cause::Failed { failure, .. }) = cause else { panic!("{cause:?}") };
    failure.code
}

#[tokio::test]
async fn an_input_that_is_too_large_is_refused_with_its_size() {
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(SIZED).then(MakeBatch).build().unwrap();
    let engine = builder(&pool, saga).build().unwrap();
    let overhead = serde_json::to_string(&output_of(1)).unwrap().len();
    let of_size = |size: usize| SIZED.with(&Size { output: 1, padding: "x".repeat(size - overhead) });
    let too_large = |answer| matches!(answer, Err(StartError::InputTooLarge { size: 1001, limit: 1000 }));
    assert!(too_large(engine.start(of_size(LIMIT + 1)).await));
    let untyped =
        NewSaga::untyped("sized", &json!({"output": 1, "padding": "x".repeat(LIMIT + 1 - overhead)}));
    assert!(too_large(engine.start(untyped).await));
    let mut transaction = pool.begin().await.unwrap();
    let both = vec![of_size(LIMIT + 1), of_size(LIMIT)];
    let answers = engine.start_in(&mut transaction, both).await.unwrap();
    assert!(too_large(answers[0].clone()) && answers[1].is_ok());
    transaction.commit().await.unwrap();
    assert_eq!(count(&pool, "select count(*) from engine.saga").await, 1);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_step_that_starts_a_saga_with_too_large_an_input_fails() {
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(SIZED).then(StartLarge).build().unwrap();
    let (test, ends) = run_together(&pool, saga, &[0]).await;
    assert_eq!(ends[0].1, Status::Compensated);
    let history = test.engine.history(ends[0].0).await.unwrap().unwrap();
    let error = history[0].error.join(": ");
    assert!(error.contains("the input has") && error.contains("may have 1000"), "{error}");
    assert_eq!(count(&pool, "select count(*) from engine.saga").await, 1);
    test.close().await;
}

/// Of three sagas in a batch, the output of one is too large.
async fn one_output_is_too_large(definition: Definition) {
    let (_database, pool) = fixtures::database().await;
    let (test, ends) = run_together(&pool, definition, &[LARGE, TOO_LARGE, LARGE]).await;
    let statuses: Vec<Status> = ends.iter().map(|(_, status)| *status).collect();
    assert_eq!(statuses, [Status::Completed, Status::Compensated, Status::Completed]);
    let saga = test.engine.saga(ends[1].0).await.unwrap().unwrap();
    assert_eq!(code(saga.cause), "output-too-large");
    let history = test.engine.history(ends[1].0).await.unwrap().unwrap();
    assert_eq!(history.len(), 1, "it is not tried again: {history:?}");
    assert_eq!((history[0].outcome, history[0].attempt), (HistoryOutcome::Failed, 1));
    assert!(history[0].error[0].contains("1002 bytes, and may have 1000"), "{:?}", history[0].error);
    let sql = "select count(*) from effect where saga_id not in (select id from engine.saga where status = 'completed')";
    assert_eq!(count(&pool, sql).await, 0, "what it wrote is taken back");
    assert_eq!(fixtures::effects(&pool, "make").await, 2);
    test.close().await;
}

#[tokio::test]
async fn an_output_of_a_batch_step_that_is_too_large_fails_its_saga_alone() {
    one_output_is_too_large(Saga::named(SIZED).then(MakeBatch).build().unwrap()).await;
}

#[tokio::test]
async fn an_output_of_a_one_item_step_that_is_too_large_fails_its_saga_alone() {
    one_output_is_too_large(Saga::named(SIZED).then(PerItem(MakeOne)).build().unwrap()).await;
}

#[tokio::test]
async fn an_output_of_a_pivot_that_is_too_large_fails_its_saga() {
    one_output_is_too_large(Saga::named(SIZED).pivot(MakeForward).build().unwrap()).await;
}

#[tokio::test]
async fn an_output_past_the_pivot_that_is_too_large_parks_its_saga() {
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(SIZED).pivot(Note).then(MakeForward).build().unwrap();
    let (test, ends) = run_together(&pool, saga, &[TOO_LARGE, LARGE]).await;
    assert_eq!((ends[0].1, ends[1].1), (Status::Dead, Status::Completed));
    let page = Page { after: None, limit: 10 };
    let job = test.engine.dead_jobs(&DeadJobFilter::default(), page).await.unwrap().items.remove(0);
    assert!(job.error.contains("output-too-large"), "{}", job.error);
    assert_eq!(fixtures::effects(&pool, "make").await, 1);
    test.close().await;
}

#[tokio::test]
async fn an_output_of_an_entry_step_that_is_too_large_refuses_the_start() {
    for definition in [
        Saga::named(SIZED).entry(MakeBatch).build().unwrap(),
        Saga::named(SIZED).entry(PerItem(MakeOne)).build().unwrap(),
    ] {
        let (_database, pool) = fixtures::database().await;
        let engine = builder(&pool, definition).build().unwrap();
        let starts = [LARGE, TOO_LARGE, LARGE].map(|output| engine.start(SIZED.with(&output_of(output))));
        let [first, second, third] = futures::future::join_all(starts).await.try_into().unwrap();
        assert!(first.is_ok() && third.is_ok());
        assert!(
            matches!(&second, Err(StartError::Refused(failure)) if failure.code == "output-too-large"),
            "{second:?}"
        );
        assert_eq!(count(&pool, "select count(*) from engine.saga").await, 2);
        assert_eq!(fixtures::effects(&pool, "make").await, 2);
        engine.shutdown().await;
    }
}

#[tokio::test]
async fn a_call_whose_output_is_too_large_is_in_doubt_and_undone() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let saga = Saga::named(SIZED).then_call(Fetch(world.clone())).pivot(Note).build().unwrap();
    let (test, ends) = run_together(&pool, saga, &[TOO_LARGE]).await;
    assert_eq!(ends[0].1, Status::Compensated);
    let sent = world.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 1, "it is not called again");
    assert_eq!(*world.taken_back.lock().unwrap(), sent);
    let saga = test.engine.saga(ends[0].0).await.unwrap().unwrap();
    assert_eq!(code(saga.cause), "output-too-large");
    test.close().await;
}

#[tokio::test]
async fn a_call_at_or_past_the_pivot_whose_output_is_too_large_is_parked() {
    for past in [false, true] {
        let (_database, pool) = fixtures::database().await;
        let world = ExternalWorld::default();
        let call = FetchForward(world.clone());
        let saga = Saga::named(SIZED);
        let saga =
            if past { saga.pivot(Note).then_call(call).build() } else { saga.pivot_call(call).build() };
        let (test, ends) = run_together(&pool, saga.unwrap(), &[TOO_LARGE]).await;
        assert_eq!(ends[0].1, Status::Dead);
        assert_eq!(world.sent.lock().unwrap().len(), 1, "it is not called again");
        let page = Page { after: None, limit: 10 };
        let job = test.engine.dead_jobs(&DeadJobFilter::default(), page).await.unwrap().items.remove(0);
        assert!(job.error.contains("output-too-large"), "{}", job.error);
        test.close().await;
    }
}

/// Fails with more words than anybody reads.
struct Ramble;

impl TransactionStep for Ramble {
    const NAME: &'static str = "ramble";
    const RETRY: RetryPolicy = fixtures::QUICK;
    type Input = Size;
    type Output = u32;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Size>) -> Result<Outcomes<u32>, StepError> {
        let words = "words ".repeat(1_000_000);
        let details = json!({ "words": words });
        Ok(batch.decide(|item| match item.attempt {
            1 => Outcome::Retry(Retry::message(words.clone()).with(details.clone())),
            _ => Outcome::Fail(engine::Failure::new("no", words.clone()).with(details.clone())),
        }))
    }
}

#[tokio::test]
async fn errors_that_are_too_long_are_cut() {
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(SIZED).then(Ramble).build().unwrap();
    let (test, ends) = run_together(&pool, saga, &[0]).await;
    assert_eq!(ends[0].1, Status::Compensated);
    let rows = "select max(greatest(pg_column_size(error), pg_column_size(details), length(error::text), \
         length(details::text)))::bigint from engine.history";
    assert!((8000..9000).contains(&count(&pool, rows).await));
    let saga = "select max(length(cause::text) + length(error))::bigint from engine.saga";
    assert!(count(&pool, saga).await < 20_000);
    let history = test.engine.history(ends[0].0).await.unwrap().unwrap();
    assert!(history[0].error[0].ends_with("more bytes)"));
    assert_eq!(history[0].details.as_ref().unwrap()["omitted_bytes"], 6_000_012);
    test.close().await;
}
