//! Children with an entry step.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use engine::{
    Batch, Cause, Definition, Direction, EachEnded, Engine, Failure, NothingToUndo, Outcome, Outcomes, Retry,
    RetryPolicy, Saga, SagaName, Status, StepError, TransactionStep, Tx,
};

use super::{Order, TestEngine, children_of, fixtures, left_behind, story, verified, waits_for_children};
use crate::{
    it::waits::{APPROVAL, LONG},
    support::WAIT_TIMEOUT,
};

/// Asks so often for a retry of `later`, and puts `snooze` off.
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
            let answer = match item.input.name.as_str() {
                "later" => Retry::message("not now"),
                "snooze" => Retry::snooze(Duration::from_millis(5), "not yet"),
                _ => return Outcome::Done(1),
            };
            let waits = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, now).is_ok();
            if waits { Outcome::Retry(answer) } else { Outcome::Done(1) }
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

const SNOOZES: SagaName<Order> = SagaName::new("snoozes");
const PARENT: SagaName<Order, EachEnded> = SagaName::new("parent-of-snoozes");

/// Has a child for each of the words of its name, and only one attempt.
fn parent(at_most: u32, max_postponed: Duration) -> Definition {
    let words = |order: &Order| order.name.split(' ').map(Order::of).collect::<Vec<_>>();
    let each = SNOOZES.each(words).at_most(at_most).settled();
    let mut parent = Saga::named(PARENT).for_each("each", each).returns_output().build().unwrap();
    let policy = RetryPolicy { attempts: 1, max_postponed, ..fixtures::QUICK };
    parent.set_policy("each", Direction::Action, policy).unwrap();
    parent
}

/// All of them are in one batch.
#[tokio::test]
async fn a_child_whose_entry_step_puts_its_start_off_puts_its_parent_off_and_nobody_else() {
    let (_database, pool) = fixtures::database().await;
    let left = Arc::new(AtomicU32::new(8));
    let build = || {
        let child = Saga::named(SNOOZES).entry(Later(left.clone())).build().unwrap();
        Engine::builder(pool.clone()).register(parent(9, RetryPolicy::MAX_POSTPONED)).register(child)
    };
    let idle = build().build().unwrap();
    let mut ids = Vec::new();
    for name in ["a b c", "a snooze c", "d e"] {
        ids.push(idle.start(PARENT.with(&Order::of(name))).await.unwrap().saga_id);
    }
    let test = TestEngine::build(build());
    for (id, wanted) in ids.iter().zip([3, 3, 2]) {
        let ending = test.engine.wait(*id, WAIT_TIMEOUT).await.unwrap().unwrap();
        let all = EachEnded { total: wanted, completed: wanted, failed: 0 };
        assert_eq!(PARENT.result(&ending).unwrap(), Some(all));
        assert_eq!(children_of(&pool, *id).await.len(), usize::try_from(wanted).unwrap());
    }
    assert_eq!(story(&test.engine, ids[0]).await, ["each opened", "each"]);
    assert_eq!(story(&test.engine, ids[2]).await, ["each opened", "each"]);
    let story = story(&test.engine, ids[1]).await;
    let (snoozed, end) = story.split_last_chunk::<2>().unwrap();
    assert_eq!(*end, ["each opened", "each"]);
    assert!(!snoozed.is_empty() && snoozed.iter().all(|entry| entry == "each snoozed"), "{story:?}");
    verified(&test.engine).await;
    test.close().await;
    idle.shutdown().await;
}

#[tokio::test]
async fn a_parent_is_not_put_off_for_ever_and_a_retry_beside_a_snooze_is_an_attempt() {
    let (_database, pool) = fixtures::database().await;
    let child = Saga::named(SNOOZES).entry(Later(Arc::new(AtomicU32::new(u32::MAX)))).build().unwrap();
    let parent = parent(9, Duration::from_millis(100));
    let test = TestEngine::build(Engine::builder(pool.clone()).register(parent).register(child));
    for (name, code) in [
        ("a snooze", Failure::POSTPONED_TOO_LONG),
        ("snooze later", Failure::ATTEMPTS_EXHAUSTED),
        ("later snooze", Failure::ATTEMPTS_EXHAUSTED),
    ] {
        let (started, ending) =
            test.engine.start_and_wait(PARENT.with(&Order::of(name)), WAIT_TIMEOUT).await.unwrap();
        let Some(Cause::Failed { failure, .. }) = ending.unwrap().cause else { panic!("it gives up") };
        assert_eq!(failure.code, code, "{name}: {}", failure.message);
        assert_eq!(children_of(&pool, started.saga_id).await, []);
    }
    verified(&test.engine).await;
    test.close().await;
}

/// What counts is how long it is put off in a row.
#[tokio::test]
async fn a_parent_that_has_opened_a_child_is_no_longer_put_off() {
    let (_database, pool) = fixtures::database().await;
    let left = Arc::new(AtomicU32::new(3));
    let child = Saga::named(SNOOZES).entry(Later(left)).signal("await-approval", APPROVAL.within(LONG));
    let parent = parent(1, RetryPolicy::MAX_POSTPONED);
    let builder = Engine::builder(pool.clone()).register(parent).register(child.build().unwrap());
    let test = TestEngine::build(builder);
    let id = test.engine.start(PARENT.with(&Order::of("snooze b"))).await.unwrap().saga_id;
    waits_for_children(&pool, id).await;
    assert!(story(&test.engine, id).await.contains(&"each snoozed".into()));
    let put_off: bool =
        sqlx::query_scalar("select postponed_since is not null from engine.saga where id = $1")
            .bind(id.0)
            .fetch_one(&pool)
            .await
            .unwrap();
    assert!(!put_off);
    verified(&test.engine).await;
    test.close().await;
}
