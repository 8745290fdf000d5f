//! What a call or its undo returns as an error is a retry with all its causes.

use anyhow::Context;
use engine::{
    CallError, CallStep, Direction, Engine, HistoryOutcome, Item, Outcome, RetryPolicy, Saga, SagaName,
    Status, UndoCall, UndoItem, UndoOutcome,
};

use super::fixtures::{self, QUICK, TestEngine, TestInput};
use crate::support::WAIT_TIMEOUT;

const PAY: SagaName<TestInput> = SagaName::new("pay");

fn ask() -> std::io::Result<String> {
    Err(std::io::Error::other("the line is dead"))
}

/// Fails at every attempt, with another kind of error each time.
struct Pay;

impl CallStep for Pay {
    const NAME: &'static str = "pay";
    const RETRY: RetryPolicy = QUICK;
    type Input = TestInput;
    type Output = String;
    type Undo = Self;

    async fn call(&self, item: &Item<TestInput>) -> Result<Outcome<String>, CallError> {
        let reply = match item.attempt {
            1 => ask()?,
            2 => ask().context("the bank can't be asked")?,
            _ => return Err("the bank is closed".into()),
        };
        Ok(Outcome::Done(reply))
    }
}

impl UndoCall<Pay> for Pay {
    const RETRY: RetryPolicy = QUICK;

    async fn undo(_: &Pay, item: &UndoItem<TestInput, Option<String>>) -> Result<UndoOutcome, CallError> {
        if item.attempt == 1 {
            let doubt = if item.output.is_none() { "in doubt" } else { "made" };
            return Err(format!("the call is {doubt}").into());
        }
        Ok(UndoOutcome::Done)
    }
}

#[tokio::test]
async fn an_error_of_a_call_is_a_retry_that_counts_and_leaves_the_call_in_doubt() {
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(PAY).then_call(Pay).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool).register(saga));
    let (started, ending) =
        test.engine.start_and_wait(PAY.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Compensated);
    let history = test.engine.history(started.saga_id).await.unwrap().unwrap();
    let attempts: Vec<_> = history
        .iter()
        .map(|entry| (entry.direction, entry.attempt, entry.outcome, entry.error.join(": ")))
        .collect();
    let entry = |direction, attempt, outcome, error: &str| (direction, attempt, outcome, error.to_owned());
    assert_eq!(
        attempts,
        [
            entry(Direction::Action, 1, HistoryOutcome::Retry, "the line is dead"),
            entry(Direction::Action, 2, HistoryOutcome::Retry, "the bank can't be asked: the line is dead"),
            entry(Direction::Action, 3, HistoryOutcome::Exhausted, "the bank is closed"),
            entry(Direction::Undo, 1, HistoryOutcome::Retry, "the call is in doubt"),
            entry(Direction::Undo, 2, HistoryOutcome::Done, ""),
        ]
    );
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}
