//! Children with an entry step.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use engine::{
    Batch, Cause, Engine, NothingToUndo, Outcome, Outcomes, RetryPolicy, Saga, SagaName, Status, StepError,
    TransactionStep, Tx,
};

use super::{Order, TestEngine, children_of, fixtures, left_behind, story, verified};
use crate::support::WAIT_TIMEOUT;

/// Asks for a retry so often.
struct Later(Arc<AtomicU32>);

impl TransactionStep for Later {
    const NAME: &'static str = "later";
    const RETRY: RetryPolicy = fixtures::QUICK;
    type Input = Order;
    type Output = u8;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Order>) -> Result<Outcomes<u8>, StepError> {
        let now = |left: u32| left.checked_sub(1);
        Ok(batch.decide(|item| {
            let waits = item.input.name == "later"
                && self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, now).is_ok();
            if waits { Outcome::Retry(engine::Retry::message("not now")) } else { Outcome::Done(1) }
        }))
    }
}

/// As with a start from outside, nothing of the start is stored; the parent is the one that tries again.
#[tokio::test]
async fn a_child_whose_entry_step_asks_for_a_retry_costs_its_parent_an_attempt() {
    const LATER: SagaName<Order> = SagaName::new("be-later");
    const PARENT: SagaName<Order> = SagaName::new("parent-of-later");
    let (_database, pool) = fixtures::database().await;
    let left = Arc::new(AtomicU32::new(2));
    let child = Saga::named(LATER).entry(Later(left.clone())).build().unwrap();
    let names = |_: &Order| ["a", "later", "b"].map(Order::of).to_vec();
    let parent = Saga::named(PARENT).for_each("each", LATER.each(names).settled()).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(parent).register(child));
    let (started, ending) =
        test.engine.start_and_wait(PARENT.with(&Order::of("x")), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    assert_eq!(
        story(&test.engine, started.saga_id).await,
        ["each retry", "each retry", "each opened", "each"]
    );
    let history = test.engine.history(started.saga_id).await.unwrap().unwrap();
    assert!(history[0].error.join(": ").contains("not now"), "{:?}", history[0].error);
    assert_eq!(children_of(&pool, started.saga_id).await.len(), 3);

    left.store(u32::MAX, Ordering::Relaxed);
    let (started, ending) =
        test.engine.start_and_wait(PARENT.with(&Order::of("x")), WAIT_TIMEOUT).await.unwrap();
    let Some(Cause::Failed { step, failure }) = ending.unwrap().cause else { panic!("it gives up") };
    assert_eq!((step.as_str(), failure.code.as_str()), ("each", "attempts-exhausted"));
    assert_eq!(children_of(&pool, started.saga_id).await, [], "none of them is opened");
    assert_eq!(left_behind(&pool).await, 0);
    verified(&test.engine).await;
    test.close().await;
}
