//! The invariants are worth something only if they fire: the engine is broken on purpose, one guard at a time.

use std::sync::{Arc, Mutex};

use engine::{
    Engine, SagaId,
    testing::{DisabledGuard, Fault, FaultPoint, Faults, history_violations, skip_waiting, with_faults},
};

use crate::support::WAIT_TIMEOUT;

use super::fixtures::{self, ExternalWorld, FULL, PLAIN, StepFault, TestEngine, TestInput};

struct DisableGuard {
    disabled_guard: DisabledGuard,
    /// Sent back once with a retry.
    slow: Mutex<Option<&'static str>>,
}

impl DisableGuard {
    fn new(disabled_guard: DisabledGuard, slow: Option<&'static str>) -> Arc<Self> {
        Arc::new(Self { disabled_guard, slow: Mutex::new(slow) })
    }
}

impl Faults for DisableGuard {
    fn at(&self, _: SagaId, point: &FaultPoint, _: u32) -> Option<Fault> {
        let mut slow = self.slow.lock().unwrap();
        slow.take_if(|step| *step == point.step).map(|_| Fault::CrashBeforeCommit)
    }

    fn disabled_guard(&self) -> Option<DisabledGuard> {
        Some(self.disabled_guard)
    }
}

async fn flaws(engine: &Engine, saga_id: SagaId) -> Vec<String> {
    let saga = engine.saga(saga_id).await.unwrap().unwrap();
    let history = engine.history(saga_id).await.unwrap().unwrap();
    history_violations(engine.definition(&saga.definition).unwrap().graph(), &saga, &history)
}

#[tokio::test]
async fn without_the_fence_a_stale_owner_does_the_work_twice_and_it_shows() {
    let (_database, pool) = fixtures::database().await;
    let guard = DisableGuard::new(DisabledGuard::Fence, None);
    let sleeper =
        with_faults(Engine::builder(pool.clone()).register(fixtures::plain_saga()), guard).build().unwrap();
    let mut feed = sleeper.feed("default", 1);
    let started = sleeper.start(PLAIN.with(&TestInput::default())).await.unwrap();
    let job = feed.recv().await.unwrap();
    skip_waiting(&pool, Some(sleeper.worker())).await.unwrap();
    // Taken over and finished by another before the sleeper wakes.
    let other = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let mut other_feed = other.feed("default", 1);
    let taken = other_feed.recv().await.unwrap();
    let performed = other.perform(&taken).await;
    other.commit(taken, performed).await;
    assert_eq!(flaws(&other, started.saga_id).await, Vec::<String>::new());
    let performed = sleeper.perform(&job).await;
    sleeper.commit(job, performed).await;
    assert_eq!(fixtures::effects(&pool, "pack").await, 2, "the effect happened twice");
    let found = flaws(&other, started.saga_id).await;
    assert!(found.iter().any(|flaw| flaw.contains("older epoch")), "{found:?}");
    assert!(found.iter().any(|flaw| flaw.contains("took effect 2 times")), "{found:?}");
    feed.close();
    other_feed.close();
    sleeper.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn a_forgotten_undo_shows_in_the_books() {
    let (_database, pool) = fixtures::database().await;
    let guard = DisableGuard::new(DisabledGuard::Undo, None);
    let test =
        TestEngine::build(with_faults(Engine::builder(pool.clone()).register(fixtures::plain_saga()), guard));
    let saga = PLAIN.with(&TestInput::with("seal", StepFault::Fails));
    test.engine.start_and_wait(saga, WAIT_TIMEOUT).await.unwrap().1.unwrap();
    assert_ne!(fixtures::effects(&pool, "pack").await, 0, "the history says undone, the books do not");
    test.close().await;
}

#[tokio::test]
async fn a_key_per_attempt_shows_to_whoever_is_called() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let guard = DisableGuard::new(DisabledGuard::IdempotencyKey, Some("send"));
    let builder = Engine::builder(pool.clone()).register(fixtures::full_saga(&world));
    let first = TestEngine::build(with_faults(builder, guard.clone()));
    let started = first.engine.start(FULL.with(&TestInput::default())).await.unwrap();
    let dead = first.engine.worker();
    while world.sent.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    first.engine.shutdown().await;
    skip_waiting(&pool, Some(dead)).await.unwrap();
    let builder = Engine::builder(pool.clone()).register(fixtures::full_saga(&world));
    let second = TestEngine::build(with_faults(builder, guard));
    second.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    let sent = world.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 2);
    assert_ne!(sent[0], sent[1], "two keys for one step: the other side would do it twice");
    second.close().await;
}
