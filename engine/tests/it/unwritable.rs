//! Outcomes that can't be stored, and watches that always fail: none of them is tried for ever, none spoils a neighbour.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use engine::{
    CallStep, DeadJobFilter, Definition, Engine, ForwardOnly, HistoryOutcome, Item, Outcome, Page, Retry,
    RetryPolicy, Saga, SagaName, Status, StatusChange, StatusObserver, StepError, Tx, UndoCall, UndoItem,
    UndoOutcome,
};
use serde_json::json;

use super::fixtures::{self, ExternalWorld, Seal, TestEngine, TestInput};

use crate::support::WAIT_TIMEOUT;

const POST: SagaName<TestInput> = SagaName::new("post");
const ALL: Page = Page { after: None, limit: 100 };

#[derive(Clone, Copy, PartialEq)]
enum Reply {
    Done(&'static str),
    /// The first time; then it is done.
    Retry(&'static str),
    Fail(&'static str),
}

/// Calls somebody whose replies are not fit to be stored.
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

    async fn call(&self, item: &Item<TestInput>) -> Outcome<String> {
        let mut asked = self.world.sent.lock().unwrap();
        asked.push(item.idempotency_key.clone());
        match self.reply {
            Reply::Done(text) => Outcome::Done(text.into()),
            Reply::Retry(text) if asked.len() == 1 => Outcome::Retry(Retry::message(text)),
            Reply::Retry(_) => Outcome::Done("at last".into()),
            Reply::Fail(text) => {
                Outcome::Fail(engine::Failure::new("no", text).with(json!({ "said": text })))
            }
        }
    }
}

impl UndoCall<Ask> for Ask {
    const RETRY: RetryPolicy = fixtures::QUICK;

    async fn undo(step: &Ask, item: &UndoItem<TestInput, String>) -> UndoOutcome {
        step.world.taken_back.lock().unwrap().push(item.action_key.clone());
        UndoOutcome::Done
    }
}

fn post(reply: Reply, world: &ExternalWorld) -> Definition {
    Saga::named(POST).then_call(Ask { reply, world: world.clone() }).pivot(Seal).build().unwrap()
}

#[tokio::test]
async fn an_output_with_nul_parks_the_saga_in_doubt_after_one_call_and_a_cancel_undoes_it() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let test = TestEngine::build(Engine::builder(pool).register(post(Reply::Done("250 ok\0"), &world)));
    let engine = &test.engine;
    let (started, ending) =
        engine.start_and_wait(POST.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let job = engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().remove(0);
    assert!(job.error.contains("NUL"), "{}", job.error);
    let asked = world.sent.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "the call is not made again");

    engine.cancel(started.saga_id, "ada", "stop it").await.unwrap();
    let ending = engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Compensated);
    assert_eq!(*world.taken_back.lock().unwrap(), asked, "what may have happened is taken back");
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
async fn nul_in_a_failure_is_replaced_and_the_saga_unwinds() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let test = TestEngine::build(Engine::builder(pool).register(post(Reply::Fail("\0"), &world)));
    let (_, ending) =
        test.engine.start_and_wait(POST.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    let ending = ending.unwrap();
    assert_eq!(ending.status, Status::Compensated);
    let said = serde_json::to_value(ending.cause.unwrap()).unwrap()["failure"]["details"]["said"].clone();
    assert_eq!(said, "\u{fffd}");
    test.close().await;
}

/// Fails for the statuses that it is told to, and counts.
struct Sulks {
    at: &'static [Status],
    told: Arc<AtomicU32>,
}

impl StatusObserver for Sulks {
    async fn status_changed(&self, _: &mut Tx<'_>, changes: &[StatusChange]) -> Result<(), StepError> {
        self.told.fetch_add(1, Ordering::Relaxed);
        match changes.iter().find(|change| self.at.contains(&change.status)) {
            Some(change) => Err(StepError::Other(format!("will not hear of {}", change.status))),
            None => Ok(()),
        }
    }
}

/// One call, which is the last step.
struct Last(ExternalWorld);

impl CallStep for Last {
    const NAME: &'static str = "last";
    const RETRY: RetryPolicy = fixtures::QUICK;
    type Input = TestInput;
    type Output = String;
    type Undo = ForwardOnly;

    async fn call(&self, item: &Item<TestInput>) -> Outcome<String> {
        self.0.sent.lock().unwrap().push(item.idempotency_key.clone());
        Outcome::Done("done".into())
    }
}

fn watched(world: &ExternalWorld, at: &'static [Status]) -> (Definition, Arc<AtomicU32>) {
    let told = Arc::new(AtomicU32::new(0));
    let watch = Sulks { at, told: told.clone() };
    let saga = Saga::named(POST).pivot(Seal).then_call(Last(world.clone())).observed_by(watch);
    (saga.build().unwrap(), told)
}

#[tokio::test]
async fn a_watch_that_refuses_the_end_costs_the_call_its_attempts_and_no_more() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let (definition, _) = watched(&world, &[Status::Completed]);
    let test = TestEngine::build(Engine::builder(pool).register(definition));
    let (_, ending) =
        test.engine.start_and_wait(POST.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let job = test.engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().remove(0);
    assert!(job.error.contains("will not hear of completed"), "{}", job.error);
    assert_eq!(world.sent.lock().unwrap().len(), 3, "as often as the policy says");
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn a_watch_that_refuses_everything_does_not_keep_its_saga_from_being_parked() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let (definition, told) = watched(&world, &[Status::Completed, Status::Dead]);
    let test = TestEngine::build(Engine::builder(pool).register(definition).register(fixtures::plain_saga()));
    let engine = &test.engine;
    let (_, ending) = engine.start_and_wait(POST.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let job = engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().remove(0);
    assert!(job.error.contains("could not be written"), "{}", job.error);
    assert_eq!(world.sent.lock().unwrap().len(), 3);
    assert!(told.load(Ordering::Relaxed) >= 4, "it was asked each time");
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}
