//! A saga for each of many items.

use engine::{Cause, EachEnded, Engine, Saga, SagaName, Status, StepKind, testing::expire_leases};

use super::{FLIGHT, Order, TestEngine, book_flight, fixtures, left_behind, story, verified};
use crate::{
    it::waits::{APPROVAL, Approval, LONG},
    support::WAIT_TIMEOUT,
};

const FLEET: SagaName<u32, EachEnded> = SagaName::new("book-fleet");

/// Books as many flights as the input says, a few at a time.
fn fleet(at_most: u32, fails_at: Option<usize>, settled: bool) -> engine::Definition {
    let items = move |count: &u32| {
        let order = |nth: usize| Order {
            fails: (fails_at == Some(nth)).then(|| "flight".into()),
            ..Order::of(&nth.to_string())
        };
        (0..usize::try_from(*count).unwrap()).map(order).collect::<Vec<_>>()
    };
    let each = FLIGHT.each(items).at_most(at_most);
    let each = if settled { each.settled() } else { each };
    Saga::named(FLEET).for_each("fly", each).returns_output().build().unwrap()
}

fn engine_of(pool: &sqlx::PgPool, fleet: engine::Definition) -> TestEngine {
    TestEngine::build(Engine::builder(pool.clone()).register(fleet).register(book_flight()))
}

#[tokio::test]
async fn each_item_gets_a_child_and_no_more_than_so_many_are_open() {
    let (_database, pool) = fixtures::database().await;
    let definition = fleet(20, None, false);
    let node = &definition.graph().steps[0];
    assert_eq!((node.kind, node.children.as_ref().unwrap().at_most), (StepKind::ForEach, Some(20)));
    let test = engine_of(&pool, definition);
    let id = test.engine.start(FLEET.with(&250)).await.unwrap().saga_id;
    let mut most = 0_i64;
    let ending = loop {
        let open: i64 = sqlx::query_scalar(
            "select count(*) from engine.saga where parent_id is not null and ended_at is null",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        most = most.max(open);
        if let Some(ending) = test.engine.wait(id, std::time::Duration::from_millis(1)).await.unwrap() {
            break ending;
        }
    };
    assert!(most <= 20, "{most} were open");
    assert_eq!(FLEET.result(&ending).unwrap(), Some(EachEnded { total: 250, completed: 250, failed: 0 }));
    assert_eq!(left_behind(&pool).await, 250);
    let positions: i64 =
        sqlx::query_scalar("select count(distinct parent_position) from engine.saga where parent_id = $1")
            .bind(id.0)
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(positions, 250);
    assert_eq!(story(&test.engine, id).await, ["fly opened", "fly"]);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn no_items_are_no_wait_and_too_many_are_refused_with_their_number() {
    let (_database, pool) = fixtures::database().await;
    let test = engine_of(&pool, fleet(20, None, false));
    let (none, ending) = test.engine.start_and_wait(FLEET.with(&0), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(
        FLEET.result(&ending.unwrap()).unwrap(),
        Some(EachEnded { total: 0, completed: 0, failed: 0 })
    );
    assert_eq!(story(&test.engine, none.saga_id).await, ["fly"]);
    let (_, ending) = test.engine.start_and_wait(FLEET.with(&10_001), WAIT_TIMEOUT).await.unwrap();
    let Some(Cause::Failed { failure, .. }) = ending.unwrap().cause else { panic!("it fails") };
    assert_eq!(failure.code, "too-many-children");
    assert_eq!(failure.message, "it has 10001 items, and may have 10000");
    test.close().await;
}

#[tokio::test]
async fn the_first_that_fails_opens_no_more_and_all_are_undone() {
    let (_database, pool) = fixtures::database().await;
    let test = engine_of(&pool, fleet(10, Some(25), false));
    let (started, ending) = test.engine.start_and_wait(FLEET.with(&1000), WAIT_TIMEOUT).await.unwrap();
    let ending = ending.unwrap();
    assert_eq!(ending.status, Status::Compensated);
    let Some(Cause::Failed { failure, .. }) = ending.cause else { panic!("a child failed") };
    assert_eq!(failure.details["position"], 25);
    let opened: i64 = sqlx::query_scalar("select count(*) from engine.saga where parent_id = $1")
        .bind(started.saga_id.0)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!((26..=45).contains(&opened), "{opened} were opened");
    assert_eq!(left_behind(&pool).await, 0);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn those_that_fail_are_counted_if_it_is_settled() {
    let (_database, pool) = fixtures::database().await;
    let test = engine_of(&pool, fleet(10, Some(25), true));
    let (_, ending) = test.engine.start_and_wait(FLEET.with(&60), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(
        FLEET.result(&ending.unwrap()).unwrap(),
        Some(EachEnded { total: 60, completed: 59, failed: 1 })
    );
    assert_eq!(left_behind(&pool).await, 59);
    verified(&test.engine).await;
    test.close().await;
}

/// The process vanishes in the middle, again and again.
#[tokio::test]
async fn every_item_gets_one_child_whatever_vanishes() {
    let (_database, pool) = fixtures::database().await;
    let first = engine_of(&pool, fleet(10, None, false));
    let id = first.engine.start(FLEET.with(&400)).await.unwrap().saga_id;
    let mut running = Some(first);
    for done in [60, 150, 300] {
        let test = running.take().unwrap();
        fixtures::holds(
            &pool,
            &format!("select count(*) >= {done} from engine.saga where status = 'completed'"),
        )
        .await;
        let dead = test.engine.worker();
        test.engine.shutdown().await;
        expire_leases(&pool, dead).await.unwrap();
        running = Some(engine_of(&pool, fleet(10, None, false)));
    }
    let test = running.unwrap();
    let ending = test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(FLEET.result(&ending).unwrap(), Some(EachEnded { total: 400, completed: 400, failed: 0 }));
    assert_eq!(left_behind(&pool).await, 400);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn children_whose_entry_step_refuses_them_stand_as_compensated() {
    const ENTERS: SagaName<Order> = SagaName::new("enters");
    const PARENT: SagaName<u32, EachEnded> = SagaName::new("opens-entries");
    let (_database, pool) = fixtures::database().await;
    let child = Saga::named(ENTERS).entry(super::Flight).build().unwrap();
    let items = |count: &u32| {
        let order = |nth: u32| Order {
            fails: (nth % 2 == 1).then(|| "flight".into()),
            ..Order::of(&nth.to_string())
        };
        (0..*count).map(order).collect::<Vec<_>>()
    };
    let parent =
        Saga::named(PARENT).for_each("open", ENTERS.each(items).settled()).returns_output().build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(parent).register(child));
    let (_, ending) = test.engine.start_and_wait(PARENT.with(&7), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(
        PARENT.result(&ending.unwrap()).unwrap(),
        Some(EachEnded { total: 7, completed: 4, failed: 3 })
    );
    assert_eq!(left_behind(&pool).await, 4);
    let causes: Vec<serde_json::Value> =
        sqlx::query_scalar("select cause from engine.saga where status = 'compensated'")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert!(causes.iter().all(|cause| cause["failure"]["code"] == "sold-out"), "{causes:?}");
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_child_that_can_not_be_started_fails_the_step_with_its_number() {
    const STRICT: SagaName<Order> = SagaName::new("strict");
    const PARENT: SagaName<u32, EachEnded> = SagaName::new("parent-of-strict");
    let (_database, pool) = fixtures::database().await;
    let refuse = |order: &Order| match order.name.as_str() {
        "3" => Err(engine::Failure::new("odd", "it is odd")),
        _ => Ok(()),
    };
    let child = Saga::named(STRICT).then(super::Flight).check_input(refuse).build().unwrap();
    let items = |count: &u32| (0..*count).map(|nth| Order::of(&nth.to_string())).collect::<Vec<_>>();
    let each = STRICT.each(items).at_most(2).settled();
    let parent = Saga::named(PARENT).for_each("open", each).returns_output().build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(parent).register(child));
    let (_, ending) = test.engine.start_and_wait(PARENT.with(&7), WAIT_TIMEOUT).await.unwrap();
    let ending = ending.unwrap();
    assert_eq!(ending.status, Status::Compensated);
    let Some(Cause::Failed { failure, .. }) = ending.cause else { panic!("it fails") };
    assert!(failure.message.starts_with("its child 3 can't be started: "), "{}", failure.message);
    assert_eq!(left_behind(&pool).await, 0);
    verified(&test.engine).await;
    test.close().await;
}

/// New code for the items gives fewer than were opened: that can't be right, and an operator is told.
#[tokio::test]
async fn a_list_that_shrinks_under_its_children_is_dead_and_not_stuck() {
    let (_database, pool) = fixtures::database().await;
    let waits = || {
        let child = Saga::named(FLIGHT).signal("await-approval", APPROVAL.within(LONG)).then(super::Flight);
        child.returns_output().build().unwrap()
    };
    let list = |length: u32| {
        let items = move |_: &u32| (0..length).map(|nth| Order::of(&nth.to_string())).collect::<Vec<_>>();
        Saga::named(FLEET).for_each("fly", FLIGHT.each(items).at_most(4)).returns_output().build().unwrap()
    };
    let first = TestEngine::build(Engine::builder(pool.clone()).register(list(9)).register(waits()));
    let id = first.engine.start(FLEET.with(&9)).await.unwrap().saga_id;
    fixtures::holds(&pool, "select count(*) = 4 from engine.saga where waits_for = 'signal'").await;
    first.close().await;
    let second = TestEngine::build(Engine::builder(pool.clone()).register(list(2)).register(waits()));
    let open: Vec<uuid::Uuid> = sqlx::query_scalar("select id from engine.saga where waits_for = 'signal'")
        .fetch_all(&pool)
        .await
        .unwrap();
    for child in open {
        second.engine.signal(engine::SagaId(child), APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    }
    let ending = second.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Dead);
    let view = second.engine.saga(id).await.unwrap().unwrap();
    assert_eq!(view.error.as_deref(), Some("`fly` has 2 children now, and has opened 4"));
    second.close().await;
}
