//! Outcomes that can't be stored, and observers that always fail: they are not retried forever, and don't affect other
//! sagas.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use engine::{
    CallError, CallStep, DeadJobFilter, Definition, Engine, ForwardOnly, HistoryOutcome, Item, Outcome, Page,
    Retry, RetryPolicy, Saga, SagaName, Status, StatusChange, StatusObserver, StepError, Tx, UndoCall,
    UndoItem, UndoOutcome,
};
use serde_json::json;

use super::fixtures::{self, ExternalWorld, Seal, TestEngine, TestInput};

use crate::support::WAIT_TIMEOUT;

const POST: SagaName<TestInput> = SagaName::new("post");
const ALL: Page = Page { after: None, limit: 100 };

#[derive(Clone, Copy, PartialEq)]
enum Reply {
    Done(&'static str),
    /// Retries once, then succeeds.
    Retry(&'static str),
    Fail(&'static str),
}

/// Calls a service whose replies can't be stored.
struct Ask {
    reply: Reply,
    world: ExternalWorld,
}

impl CallStep for Ask {
    const NAME: &'static str = "ask";
    const RETRY: RetryPolicy = fixtures::QUICK;
    type Input = TestInput;
    type Output = String;
    type Undo = Self;

    async fn call(&self, item: &Item<TestInput>) -> Result<Outcome<String>, CallError> {
        let mut sent = self.world.sent.lock().unwrap();
        sent.push(item.idempotency_key.clone());
        Ok(match self.reply {
            Reply::Done(text) => Outcome::Done(text.into()),
            Reply::Retry(text) if sent.len() == 1 => Outcome::Retry(Retry::message(text)),
            Reply::Retry(_) => Outcome::Done("at last".into()),
            Reply::Fail(text) => {
                Outcome::Fail(engine::Failure::new("no", text).with(json!({ "reply": text })))
            }
        })
    }
}

impl UndoCall<Ask> for Ask {
    const RETRY: RetryPolicy = fixtures::QUICK;

    async fn undo(step: &Ask, item: &UndoItem<TestInput, Option<String>>) -> Result<UndoOutcome, CallError> {
        step.world.taken_back.lock().unwrap().push(item.action_key.clone());
        Ok(UndoOutcome::Done)
    }
}

fn post(reply: Reply, world: &ExternalWorld) -> Definition {
    Saga::named(POST).then_call(Ask { reply, world: world.clone() }).pivot(Seal).build().unwrap()
}

#[tokio::test]
async fn an_output_with_nul_dead_letters_the_saga_in_doubt_and_a_cancel_undoes_its_call() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let test = TestEngine::build(Engine::builder(pool).register(post(Reply::Done("250 ok\0"), &world)));
    let engine = &test.engine;
    let (started, ending) =
        engine.start_and_wait(POST.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let job = engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items.remove(0);
    assert!(job.error.contains("NUL"), "{}", job.error);
    let sent = world.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 1, "the call is not made again");

    engine.cancel(started.saga_id, "ada", "stop it").await.unwrap();
    let ending = engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Compensated);
    assert_eq!(*world.taken_back.lock().unwrap(), sent, "what may have happened is taken back");
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn nul_in_an_error_is_replaced_and_the_saga_goes_on() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let test = TestEngine::build(Engine::builder(pool).register(post(Reply::Retry("421 \0 busy"), &world)));
    let engine = &test.engine;
    let (started, ending) =
        engine.start_and_wait(POST.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    let history = engine.history(started.saga_id).await.unwrap().unwrap();
    assert_eq!(history[0].outcome, HistoryOutcome::Retry);
    assert_eq!(history[0].error, ["421 \u{fffd} busy"]);
    test.close().await;
}

#[tokio::test]
async fn nul_in_a_failure_is_replaced_and_the_saga_compensates() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let test = TestEngine::build(Engine::builder(pool).register(post(Reply::Fail("\0"), &world)));
    let (_, ending) =
        test.engine.start_and_wait(POST.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    let ending = ending.unwrap();
    assert_eq!(ending.status, Status::Compensated);
    let reply = serde_json::to_value(ending.cause.unwrap()).unwrap()["failure"]["details"]["reply"].clone();
    assert_eq!(reply, "\u{fffd}");
    test.close().await;
}

/// Fails for these statuses, and counts its calls.
struct RefusesStatuses {
    at: &'static [Status],
    calls: Arc<AtomicU32>,
}

impl StatusObserver for RefusesStatuses {
    async fn status_changed(&self, _: &mut Tx<'_>, changes: &[StatusChange]) -> Result<(), StepError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match changes.iter().find(|change| self.at.contains(&change.status)) {
            Some(change) => Err(StepError::Other(format!("refused by the observer: {}", change.status))),
            None => Ok(()),
        }
    }
}

/// A call as the last step.
struct Last(ExternalWorld);

impl CallStep for Last {
    const NAME: &'static str = "last";
    const RETRY: RetryPolicy = fixtures::QUICK;
    type Input = TestInput;
    type Output = String;
    type Undo = ForwardOnly;

    async fn call(&self, item: &Item<TestInput>) -> Result<Outcome<String>, CallError> {
        self.0.sent.lock().unwrap().push(item.idempotency_key.clone());
        Ok(Outcome::Done("done".into()))
    }
}

/// A saga whose observer refuses these statuses, and the number of the observer's calls.
fn observed(world: &ExternalWorld, at: &'static [Status]) -> (Definition, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let observer = RefusesStatuses { at, calls: calls.clone() };
    let saga = Saga::named(POST).pivot(Seal).then_call(Last(world.clone())).observed_by(observer);
    (saga.build().unwrap(), calls)
}

#[tokio::test]
async fn an_observer_that_refuses_completion_uses_up_the_attempts_of_the_call() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let (definition, _) = observed(&world, &[Status::Completed]);
    let test = TestEngine::build(Engine::builder(pool).register(definition));
    let (_, ending) =
        test.engine.start_and_wait(POST.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let job = test.engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items.remove(0);
    assert!(job.error.contains("refused by the observer: completed"), "{}", job.error);
    assert_eq!(world.sent.lock().unwrap().len(), 3, "as often as the policy says");
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn an_observer_that_refuses_everything_does_not_prevent_dead_lettering() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let (definition, calls) = observed(&world, &[Status::Completed, Status::Dead]);
    let test = TestEngine::build(Engine::builder(pool).register(definition).register(fixtures::plain_saga()));
    let engine = &test.engine;
    let (_, ending) = engine.start_and_wait(POST.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let job = engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items.remove(0);
    assert!(job.error.contains("could not be written"), "{}", job.error);
    assert_eq!(world.sent.lock().unwrap().len(), 3);
    assert!(calls.load(Ordering::Relaxed) >= 4, "it was called for each attempt");
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}
