//! What the children of a step gave, in pages, and trees as operators see them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use engine::{
    Cause, ChildResult, DeadJobFilter, EachEnded, Engine, Page, PageOf, Saga, SagaFilter, SagaId, SagaName,
    Status, TreeStep,
};

use super::{Fussy, HOTEL, Hotel, Order, Seal, TRIP, TestEngine, compensates::slow_trips, fixtures, trips};
use crate::{
    it::waits::{APPROVAL, LONG},
    support::WAIT_TIMEOUT,
};

/// The positions and rounds of a page.
fn places(page: &PageOf<ChildResult>) -> Vec<(u32, u32, Status)> {
    page.items.iter().map(|child| (child.position, child.round, child.status)).collect()
}

#[tokio::test]
async fn the_results_of_the_children_of_a_step_are_read_in_pages_by_position() {
    const EACH: SagaName<Order, EachEnded> = SagaName::new("book-each");
    let (_database, pool) = fixtures::database().await;
    let items = |order: &Order| {
        let fails = |nth: usize| (nth == 3).then(|| order.name.clone());
        (0..5).map(|nth| Order { fails: fails(nth), ..Order::of(&nth.to_string()) }).collect::<Vec<_>>()
    };
    let each = HOTEL.each(items).at_most(2).settled();
    let parent = Saga::named(EACH).for_each("each", each).returns_output().build().unwrap();
    let test = TestEngine::build(trips(&pool).register(parent));
    let (started, ending) =
        test.engine.start_and_wait(EACH.with(&Order::of("hotel")), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    let read = async |step: &'static str, after| {
        test.engine.child_results(started.saga_id, step, after, 2).await.unwrap().unwrap()
    };
    let first = read("each", None).await;
    assert_eq!(places(&first), [(0, 0, Status::Completed), (1, 0, Status::Completed)]);
    assert!(first.has_more);
    assert_eq!(first.items[1].result.as_ref().unwrap()["number"], "hotel 1");
    let second = read("each", Some(1)).await;
    assert_eq!(places(&second), [(2, 0, Status::Completed), (3, 0, Status::Compensated)]);
    let failed = &second.items[1];
    assert!(matches!(&failed.cause, Some(Cause::Failed { failure, .. }) if failure.code == "sold-out"));
    assert_eq!((failed.result.as_ref(), failed.ended_at.is_some()), (None, true));
    let last = read("each", Some(3)).await;
    assert_eq!((places(&last), last.has_more), (vec![(4, 0, Status::Completed)], false));
    for (step, after) in [("each", Some(4)), ("each", Some(u32::MAX)), ("no-such-step", None)] {
        assert_eq!(read(step, after).await, PageOf::empty(), "{step} {after:?}");
    }
    let nobody = test.engine.child_results(SagaId::generate(), "each", None, 2).await.unwrap();
    assert_eq!(nobody, None);
    test.close().await;
}

/// Every other item fails, and a retry opens those anew: their items are computed once for all of them, and their
/// results are those of the last round.
#[tokio::test]
async fn scattered_children_that_are_opened_anew_are_computed_once_and_are_the_results() {
    const FUSSY: SagaName<Order> = SagaName::new("be-fussy");
    const PARENT: SagaName<Order, EachEnded> = SagaName::new("parent-of-scattered");
    let (_database, pool) = fixtures::database().await;
    let (works, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    let items = move |_: &Order| {
        counted.fetch_add(1, Ordering::Relaxed);
        (0..60).map(|nth| Order::of(if nth % 2 == 0 { "fine" } else { "fussy" })).collect::<Vec<_>>()
    };
    // It is their entry step that says no, so that all have ended when the parent looks again.
    let child = Saga::named(FUSSY).entry(Fussy(works.clone())).build().unwrap();
    let parent =
        Saga::named(PARENT).pivot(Seal).for_each("each", FUSSY.each(items)).returns_output().build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(parent).register(child));
    let (started, ending) =
        test.engine.start_and_wait(PARENT.with(&Order::of("x")), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    works.store(true, Ordering::Relaxed);
    asked.store(0, Ordering::Relaxed);
    let page = Page { after: None, limit: 10 };
    let dead = test.engine.dead_jobs(&DeadJobFilter::default(), page).await.unwrap().items;
    test.engine.retry_dead_job(dead[0].dead_job_id, "ada", "again").await.unwrap();
    assert_eq!(
        test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status,
        Status::Completed
    );
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked < 10, "the items were computed {asked} times for 30 children");
    let page = test.engine.child_results(started.saga_id, "each", None, 100).await.unwrap().unwrap();
    let wanted: Vec<_> = (0..60).map(|nth| (nth, nth % 2, Status::Completed)).collect();
    assert_eq!(places(&page), wanted);
    test.close().await;
}

#[tokio::test]
async fn a_tree_is_counted_by_its_steps_and_names_the_sagas_that_need_somebody() {
    const TOUR: SagaName<Order, String> = SagaName::new("tour");
    let (_database, pool) = fixtures::database().await;
    let hotel = Saga::named(HOTEL)
        .when(
            "waits",
            |order: &Order| order.name == "slow",
            |arm| arm.signal("await-approval", APPROVAL.within(LONG)),
        )
        .then(Hotel)
        .returns_output()
        .build()
        .unwrap();
    let alone = |order: &Order| Order::of(&order.name);
    let sad = |_: &Order| Order { fails: Some("hotel".into()), ..Order::of("sad") };
    let tour = Saga::named(TOUR)
        .parallel_settled("trips", (TRIP.child(alone), TRIP.child(sad), HOTEL.child(sad)))
        .returns(|_: &Order| "fine".to_owned())
        .build()
        .unwrap();
    let builder = Engine::builder(pool.clone()).register(super::trip()).register(super::book_flight());
    let test = TestEngine::build(builder.register(hotel).register(tour));
    let id = test.engine.start(TOUR.with(&Order::of("slow"))).await.unwrap().saga_id;
    fixtures::holds(
        &pool,
        "select count(*) = 2 and bool_or(waits_for = 'signal') from engine.saga \
         where ended_at is null and parent_id is not null",
    )
    .await;
    let slow: uuid::Uuid = sqlx::query_scalar(
        "update engine.saga set status = 'dead', due_at = null, waits_for = null, wait_until = null, \
             signal_name = null \
         where definition = 'book-hotel' and waits_for = 'signal' returning id",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    let tree = test.engine.tree(SagaId(slow)).await.unwrap().unwrap();
    assert_eq!((tree.root.saga_id, tree.root.waits_for.as_deref()), (id, Some("children")));
    let step = |depth, parent: &str, step: &str, definition: &str| TreeStep {
        depth,
        parent_definition: parent.into(),
        step: step.into(),
        definition: definition.into(),
        running: 0,
        compensating: 0,
        dead: 0,
        completed: 0,
        compensated: 0,
        given_up: 0,
        wait_for_version: 0,
    };
    assert_eq!(
        tree.steps,
        [
            TreeStep { compensated: 1, ..step(1, "tour", "trips", "book-hotel") },
            TreeStep { running: 1, compensated: 1, ..step(1, "tour", "trips", "trip") },
            TreeStep { completed: 1, compensated: 1, ..step(2, "trip", "book", "book-flight") },
            TreeStep { dead: 1, compensated: 1, ..step(2, "trip", "book", "book-hotel") },
        ]
    );
    let in_need: Vec<_> =
        tree.in_need.iter().map(|saga| (saga.definition.as_str(), saga.status.name())).collect();
    assert_eq!(in_need[0], ("book-hotel", "dead"));
    assert_eq!(in_need.len(), 4, "the flight that was undone with its trip is none of them: {in_need:?}");
    let filter = SagaFilter { root: Some(id), ..SagaFilter::default() };
    let all = test.engine.sagas(&filter, Page { after: None, limit: 100 }).await.unwrap().items;
    assert_eq!(all.len(), 8);
    assert!(all.iter().any(|saga| saga.saga_id == id), "the topmost saga is among them");
    assert!(test.engine.tree(SagaId::generate()).await.unwrap().is_none());
    test.close().await;
}

/// Looking at its children anew is no new wait.
#[tokio::test]
async fn a_parent_waits_since_it_came_to_its_step() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(slow_trips(&pool));
    let id = test.engine.start(TRIP.with(&Order::of("ada"))).await.unwrap().saga_id;
    super::compensates::flight_is_booked(&pool, id).await;
    let earlier =
        "update engine.saga set waits_since = waits_since - interval '1 hour' where waits_for = 'children'";
    sqlx::query(earlier).execute(&pool).await.unwrap();
    let look = "update engine.saga set due_at = now() where waits_for = 'children' returning epoch";
    let epoch: i64 = sqlx::query_scalar(look).fetch_one(&pool).await.unwrap();
    test.engine.claim_ids(&[id]).await.unwrap();
    fixtures::holds(
        &pool,
        &format!("select epoch > {epoch} and waits_for = 'children' from engine.saga where id = '{id}'"),
    )
    .await;
    let waiting = test.engine.waiting_counts().await.unwrap();
    let oldest = waiting.iter().find(|count| count.waits_for == "children").unwrap().oldest.unwrap();
    assert!(oldest.as_secs() >= 3600, "{oldest:?}");
    // Its undo is another wait.
    test.engine.cancel(id, "ada", "no").await.unwrap();
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    let left: bool = sqlx::query_scalar("select waits_since is null from engine.saga where id = $1")
        .bind(id.0)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(left);
    test.close().await;
}
