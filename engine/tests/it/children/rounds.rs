//! Behind the pivot a child that does not complete parks its parent, and a retry opens it anew.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use engine::{DeadJobFilter, EachEnded, Engine, Page, Saga, SagaId, SagaName, Status};
use sqlx::PgPool;

use super::{Fussy, Order, Seal, TestEngine, children_of, fixtures, left_behind, story, verified};
use crate::{
    it::waits::{APPROVAL, Approval, LONG},
    support::WAIT_TIMEOUT,
};

/// Retries all dead jobs.
async fn retry_dead_jobs(engine: &Engine) {
    let page = Page { after: None, limit: 10 };
    for job in engine.dead_jobs(&DeadJobFilter::default(), page).await.unwrap().items {
        engine.retry_dead_job(job.dead_job_id, "ada", "again").await.unwrap();
    }
}

async fn stands_still(pool: &PgPool, saga: SagaId) {
    fixtures::holds(pool, &format!("select status <> 'running' from engine.saga where id = '{saga}'")).await;
}

#[tokio::test]
async fn a_retry_opens_only_the_children_anew_that_did_not_complete() {
    const FUSSY: SagaName<Order> = SagaName::new("be-fussy");
    const PARENT: SagaName<Order, EachEnded> = SagaName::new("parent-of-fussy");
    let (_database, pool) = fixtures::database().await;
    let works = Arc::new(AtomicBool::new(false));
    let child = Saga::named(FUSSY).then(Fussy(works.clone())).build().unwrap();
    let names = |_: &Order| ["a", "fussy", "b"].map(Order::of).to_vec();
    let parent =
        Saga::named(PARENT).pivot(Seal).for_each("each", FUSSY.each(names)).returns_output().build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(parent).register(child));
    let (started, ending) =
        test.engine.start_and_wait(PARENT.with(&Order::of("x")), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let view = test.engine.saga(started.saga_id).await.unwrap().unwrap();
    assert!(view.error.as_deref().unwrap().contains("it is fussy"), "{:?}", view.error);
    // Once more in vain.
    retry_dead_jobs(&test.engine).await;
    stands_still(&pool, started.saga_id).await;
    works.store(true, Ordering::Relaxed);
    retry_dead_jobs(&test.engine).await;
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(PARENT.result(&ending).unwrap(), Some(EachEnded { total: 3, completed: 3, failed: 0 }));
    let rounds: Vec<(i32, i32, String)> = sqlx::query_as(
        "select parent_round, parent_position, status from engine.saga where parent_id = $1 order by 1, 2",
    )
    .bind(started.saga_id.0)
    .fetch_all(&pool)
    .await
    .unwrap();
    let row = |round, position, status: &str| (round, position, status.to_owned());
    assert_eq!(
        rounds,
        [
            row(0, 0, "completed"),
            row(0, 1, "compensated"),
            row(0, 2, "completed"),
            row(1, 1, "compensated"),
            row(2, 1, "completed"),
        ]
    );
    assert_eq!(left_behind(&pool).await, 3);
    assert_eq!(
        story(&test.engine, started.saga_id).await,
        ["seal", "each opened", "each failed", "each retried", "each failed", "each retried", "each"]
    );
    assert_eq!(children_of(&pool, started.saga_id).await.len(), 5);
    verified(&test.engine).await;
    test.close().await;
}

/// A child that ends without completing after a retry, and one whose turn did not come in its round, are opened anew,
/// too.
#[tokio::test]
async fn a_child_that_fails_after_the_retry_began_is_opened_anew_as_well() {
    const SLOW: SagaName<Order> = SagaName::new("slowly-fussy");
    const PARENT: SagaName<Order, EachEnded> = SagaName::new("parent-of-slow");
    let (_database, pool) = fixtures::database().await;
    let works = Arc::new(AtomicBool::new(false));
    let child = Saga::named(SLOW)
        .when(
            "waits",
            |order: &Order| order.fails_after,
            |arm| arm.signal("await-approval", APPROVAL.within(LONG)),
        )
        .then(Fussy(works.clone()))
        .build()
        .unwrap();
    // The first fails at once, the second when its signal comes.
    let items = |_: &Order| vec![Order::of("fussy"), Order { fails_after: true, ..Order::of("fussy") }];
    let parent =
        Saga::named(PARENT).pivot(Seal).for_each("each", SLOW.each(items)).returns_output().build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(parent).register(child));
    let (started, ending) =
        test.engine.start_and_wait(PARENT.with(&Order::of("x")), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    retry_dead_jobs(&test.engine).await;
    stands_still(&pool, started.saga_id).await;
    let slow: uuid::Uuid = sqlx::query_scalar("select id from engine.saga where waits_for = 'signal'")
        .fetch_one(&pool)
        .await
        .unwrap();
    test.engine.signal(engine::SagaId(slow), APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    assert_eq!(
        test.engine.wait(engine::SagaId(slow), WAIT_TIMEOUT).await.unwrap().unwrap().status,
        Status::Compensated
    );
    works.store(true, Ordering::Relaxed);
    retry_dead_jobs(&test.engine).await;
    // Round 2 opens both: that of round 1, and the one of round 0 that failed meanwhile.
    fixtures::holds(&pool, "select exists (select from engine.saga where waits_for = 'signal')").await;
    let slow: uuid::Uuid = sqlx::query_scalar("select id from engine.saga where waits_for = 'signal'")
        .fetch_one(&pool)
        .await
        .unwrap();
    test.engine.signal(engine::SagaId(slow), APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(PARENT.result(&ending).unwrap(), Some(EachEnded { total: 2, completed: 2, failed: 0 }));
    assert_eq!(left_behind(&pool).await, 2);
    verified(&test.engine).await;
    test.close().await;
}

/// Several parents that are retried together share how many children one transaction opens.
#[tokio::test]
async fn parents_that_are_retried_together_open_all_that_did_not_complete() {
    const FUSSY: SagaName<Order> = SagaName::new("be-fussy");
    const PARENT: SagaName<Order, EachEnded> = SagaName::new("large-parent-of-fussy");
    const COUNT: u32 = 300;
    let (_database, pool) = fixtures::database().await;
    let works = Arc::new(AtomicBool::new(false));
    let items = |_: &Order| (0..COUNT).map(|_| Order::of("fussy")).collect::<Vec<_>>();
    // It is its entry step that says no, so that all of a round have ended when the next commit looks.
    let build = || {
        let child = Saga::named(FUSSY).entry(Fussy(works.clone())).build().unwrap();
        let each = FUSSY.each(items).at_most(COUNT);
        let parent = Saga::named(PARENT).pivot(Seal).for_each("each", each).returns_output().build().unwrap();
        Engine::builder(pool.clone()).register(parent).register(child).build().unwrap()
    };
    let test = TestEngine::start(build());
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(test.engine.start(PARENT.with(&Order::of("x"))).await.unwrap().saga_id);
    }
    for id in &ids {
        assert_eq!(test.engine.wait(*id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Dead);
    }
    test.close().await;
    works.store(true, Ordering::Relaxed);
    let idle = build();
    retry_dead_jobs(&idle).await;
    let test = TestEngine::start(idle);
    for id in &ids {
        let ending = test.engine.wait(*id, WAIT_TIMEOUT).await.unwrap().unwrap();
        let error = test.engine.saga(*id).await.unwrap().unwrap().error;
        assert_eq!((ending.status, error), (Status::Completed, None));
        assert_eq!(
            PARENT.result(&ending).unwrap(),
            Some(EachEnded { total: COUNT, completed: COUNT, failed: 0 })
        );
    }
    assert_eq!(left_behind(&pool).await, 4 * i64::from(COUNT));
    verified(&test.engine).await;
    test.close().await;
}
