//! Shows that the invariants notice a broken engine: each test disables one guard.

use std::sync::{Arc, Mutex};

use engine::{
    Engine, SagaId,
    testing::{DisabledGuard, Fault, FaultPoint, Faults, expire_leases, history_violations, with_faults},
};

use crate::support::WAIT_TIMEOUT;

use super::fixtures::{self, ExternalWorld, FULL, PLAIN, StepFault, TestEngine, TestInput};

struct DisableGuard {
    disabled_guard: DisabledGuard,
    /// The step before whose commit the process crashes, once.
    crashes_at: Mutex<Option<&'static str>>,
}

impl DisableGuard {
    fn new(disabled_guard: DisabledGuard, crashes_at: Option<&'static str>) -> Arc<Self> {
        Arc::new(Self { disabled_guard, crashes_at: Mutex::new(crashes_at) })
    }
}

impl Faults for DisableGuard {
    fn at(&self, _: SagaId, point: &FaultPoint, _: u32) -> Option<Fault> {
        let mut crashes_at = self.crashes_at.lock().unwrap();
        crashes_at.take_if(|step| *step == point.step).map(|_| Fault::CrashBeforeCommit)
    }

    fn disabled_guard(&self) -> Option<DisabledGuard> {
        Some(self.disabled_guard)
    }
}

async fn violations(engine: &Engine, saga_id: SagaId) -> Vec<String> {
    let saga = engine.saga(saga_id).await.unwrap().unwrap();
    let history = engine.history(saga_id).await.unwrap().unwrap();
    history_violations(engine.definition(&saga.definition).unwrap().graph(), &saga, &history)
}

#[tokio::test]
async fn without_the_fence_a_stale_owner_repeats_a_step_and_the_invariants_notice() {
    let (_database, pool) = fixtures::database().await;
    let guard = DisableGuard::new(DisabledGuard::Fence, None);
    let stale =
        with_faults(Engine::builder(pool.clone()).register(fixtures::plain_saga()), guard).build().unwrap();
    // The feed has one slot, and the job fills it, so the engine can't take over its own saga.
    let mut feed = stale.feed("default", 1);
    let started = stale.start(PLAIN.with(&TestInput::default())).await.unwrap();
    let job = feed.recv().await.unwrap();
    expire_leases(&pool, stale.worker()).await.unwrap();
    // Another process takes over and finishes before the stale one continues.
    let other = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let mut other_feed = other.feed("default", 1);
    let taken = other_feed.recv().await.unwrap();
    let performed = other.perform(&taken).await;
    other.commit(taken, performed).await;
    assert_eq!(violations(&other, started.saga_id).await, Vec::<String>::new());
    let performed = stale.perform(&job).await;
    stale.commit(job, performed).await;
    assert_eq!(fixtures::effects(&pool, "pack").await, 2, "the effect happened twice");
    let found = violations(&other, started.saga_id).await;
    assert!(found.iter().any(|violation| violation.contains("older epoch")), "{found:?}");
    assert!(found.iter().any(|violation| violation.contains("took effect 2 times")), "{found:?}");
    feed.close();
    other_feed.close();
    stale.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn without_undos_the_effects_remain() {
    let (_database, pool) = fixtures::database().await;
    let guard = DisableGuard::new(DisabledGuard::Undo, None);
    let test =
        TestEngine::build(with_faults(Engine::builder(pool.clone()).register(fixtures::plain_saga()), guard));
    let saga = PLAIN.with(&TestInput::with("seal", StepFault::Fails));
    test.engine.start_and_wait(saga, WAIT_TIMEOUT).await.unwrap().1.unwrap();
    assert_ne!(fixtures::effects(&pool, "pack").await, 0, "the history has the undo, but the effect remains");
    test.close().await;
}

#[tokio::test]
async fn without_a_stable_idempotency_key_the_called_service_gets_two_keys() {
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
    expire_leases(&pool, dead).await.unwrap();
    let builder = Engine::builder(pool.clone()).register(fixtures::full_saga(&world));
    let second = TestEngine::build(with_faults(builder, guard));
    second.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    let sent = world.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 2);
    assert_ne!(sent[0], sent[1], "two keys for one step: the service would do it twice");
    second.close().await;
}
