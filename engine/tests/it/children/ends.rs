//! A parent goes on when its children have ended, with what they gave.

use engine::{ChildEnd, Engine, Joined, Saga, SagaName, Status};

use super::{
    Booked, FLIGHT, HOTEL, Order, TRIP, TestEngine, book_flight, book_hotel, children_of, fixtures,
    left_behind, story, trips, verified,
};
use crate::support::WAIT_TIMEOUT;

#[tokio::test]
async fn children_run_side_by_side_and_what_they_give_is_read() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(trips(&pool));
    let (started, ending) =
        test.engine.start_and_wait(TRIP.with(&Order::of("ada")), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(TRIP.result(&ending.unwrap()).unwrap().as_deref(), Some("flight ada and hotel ada"));
    assert_eq!(story(&test.engine, started.saga_id).await, ["plan", "book opened", "book", "confirm"]);
    let children = children_of(&pool, started.saga_id).await;
    let completed = |name: &str, position| (name.to_owned(), "completed".to_owned(), position);
    assert_eq!(children, [completed("book-flight", 0), completed("book-hotel", 1)]);
    let (roots, depths): (i64, i64) =
        sqlx::query_as("select count(distinct root_id), sum(depth) from engine.saga where root_id = $1")
            .bind(started.saga_id.0)
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!((roots, depths), (1, 2));
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn many_parents_go_through_their_children_at_once() {
    let (_database, pool) = fixtures::database().await;
    let idle = trips(&pool).build().unwrap();
    let mut ids = Vec::new();
    for nth in 0..40 {
        ids.push(idle.start(TRIP.with(&Order::of(&nth.to_string()))).await.unwrap().saga_id);
    }
    let test = TestEngine::start(idle);
    for (nth, id) in ids.into_iter().enumerate() {
        let ending = test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
        assert_eq!(TRIP.result(&ending).unwrap(), Some(format!("flight {nth} and hotel {nth}")));
    }
    assert_eq!(left_behind(&pool).await, 3 * 40);
    verified(&test.engine).await;
    test.close().await;
}

const SETTLES: SagaName<Order, String> = SagaName::new("settles");

#[tokio::test]
async fn a_settled_child_that_does_not_complete_is_data() {
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(SETTLES)
        .parallel_settled("book", (FLIGHT.child(Order::clone), HOTEL.child(Order::clone)))
        .returns(|Joined((flight, hotel)): &Joined<(ChildEnd<Booked>, ChildEnd<Booked>)>| {
            let say = |end: &ChildEnd<Booked>| match end {
                ChildEnd::Completed(booked) => booked.number.clone(),
                ChildEnd::Compensated(cause) => cause.sentence(),
                ChildEnd::GivenUp => "given up".into(),
            };
            format!("{}; {}", say(flight), say(hotel))
        })
        .build()
        .unwrap();
    let builder = Engine::builder(pool.clone()).register(saga);
    let test = TestEngine::build(builder.register(book_flight()).register(book_hotel()));
    let order = Order { fails: Some("hotel".into()), ..Order::of("ada") };
    let (started, ending) = test.engine.start_and_wait(SETTLES.with(&order), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(
        SETTLES.result(&ending.unwrap()).unwrap().as_deref(),
        Some("flight ada; hotel: there is none left (sold-out)")
    );
    assert_eq!(story(&test.engine, started.saga_id).await, ["book opened", "book"]);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_single_child_gives_its_result_and_its_parent_is_told_of_its_end() {
    const ONE: SagaName<Order, Booked> = SagaName::new("one-flight");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(ONE).child("fly", FLIGHT.child(Order::clone)).returns_output().build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga).register(book_flight()));
    let (started, ending) =
        test.engine.start_and_wait(ONE.with(&Order::of("ada")), WAIT_TIMEOUT).await.unwrap();
    let given = ONE.result(&ending.unwrap()).unwrap().unwrap();
    assert_eq!(given, Booked { number: "flight ada".into() });
    let view = test.engine.saga(started.saga_id).await.unwrap().unwrap();
    assert_eq!((view.status, view.child_of), (Status::Completed, None));
    let child: uuid::Uuid = sqlx::query_scalar("select id from engine.saga where parent_id is not null")
        .fetch_one(&pool)
        .await
        .unwrap();
    let child_of = test.engine.saga(engine::SagaId(child)).await.unwrap().unwrap().child_of.unwrap();
    assert_eq!((child_of.parent_id, child_of.root_id), (started.saga_id, started.saga_id));
    assert_eq!((child_of.step.as_str(), child_of.position, child_of.depth), ("fly", 0, 1));
    verified(&test.engine).await;
    test.close().await;
}

/// Who commits the end of a child vanishes before its parent is told.
#[tokio::test]
async fn a_parent_that_was_not_told_of_an_end_is_found() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(trips(&pool));
    let id = test.engine.start(TRIP.with(&Order::of("ada"))).await.unwrap().saga_id;
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    test.close().await;
    // As if the last end had not been told: the parent waits, and all its children have ended.
    sqlx::query(
        "update engine.saga set status = 'running', step = 'book', direction = 'action', in_doubt = true, ended_at = null, \
             due_at = null, waits_for = 'children', waits_since = now(), wakes_at_open = 0, wakes_at_failure = true, \
             result = null, history_seq = 2 where id = $1",
    )
    .bind(id.0)
    .execute(&pool)
    .await
    .unwrap();
    sqlx::query("delete from engine.history_run where saga_id = $1 and seq > 2")
        .bind(id.0)
        .execute(&pool)
        .await
        .unwrap();
    let test = TestEngine::build(trips(&pool));
    let ending = test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(TRIP.result(&ending).unwrap().as_deref(), Some("flight ada and hotel ada"));
    verified(&test.engine).await;
    test.close().await;
}
