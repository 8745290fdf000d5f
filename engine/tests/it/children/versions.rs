//! Children of a version that no process runs any more.

use std::time::Duration;

use engine::{Engine, EngineBuilder, Prospect, Saga, Status};

use super::{HOTEL, Hotel, Order, TRIP, TestEngine, book_flight, compensates::slow_trips, fixtures, trip};
use crate::it::waits::{APPROVAL, LONG};

/// Newer hotels are planned first.
fn newer_trips(pool: &sqlx::PgPool) -> EngineBuilder {
    let hotel =
        Saga::named(HOTEL).then(super::Plan).signal("await-approval", APPROVAL.within(LONG)).then(Hotel);
    let hotel = hotel.returns_output().build().unwrap();
    let builder =
        Engine::builder(pool.clone()).unknown_grace(Duration::ZERO).sweep(Duration::from_millis(20));
    builder.register(trip()).register(book_flight()).register(hotel)
}

#[tokio::test]
async fn a_parent_says_that_a_child_of_it_waits_for_a_version_and_for_which() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(slow_trips(&pool));
    let id = test.engine.start(TRIP.with(&Order::of("ada"))).await.unwrap().saga_id;
    super::compensates::flight_is_booked(&pool, id).await;
    let children = test.engine.children_of(id).await.unwrap();
    assert_eq!((children[0].wait_for_version, children[0].missing_graphs.len()), (0, 0));
    test.close().await;
    sqlx::query("update engine.saga set due_at = now() where definition = 'book-hotel'")
        .execute(&pool)
        .await
        .unwrap();
    let test = TestEngine::build(newer_trips(&pool));
    fixtures::holds(&pool, "select waits_for = 'version' from engine.saga where definition = 'book-hotel'")
        .await;
    let hash: String =
        sqlx::query_scalar("select graph_hash from engine.saga where definition = 'book-hotel'")
            .fetch_one(&pool)
            .await
            .unwrap();
    let children = test.engine.children_of(id).await.unwrap();
    assert_eq!((children[0].open, children[0].wait_for_version), (1, 1));
    assert_eq!(children[0].missing_graphs, std::slice::from_ref(&hash));
    let waiting = test.engine.waiting_counts().await.unwrap();
    assert!(
        waiting.iter().any(|count| count.waits_for == "child_version" && count.sagas == 1),
        "{waiting:?}"
    );
    let tree = test.engine.tree(id).await.unwrap().unwrap();
    assert_eq!(tree.steps.iter().map(|step| step.wait_for_version).sum::<i64>(), 1);
    assert_eq!(tree.in_need[0].waits_for.as_deref(), Some("version"));
    let graphs = test.engine.graphs_of("book-hotel").await.unwrap();
    let known: Vec<_> =
        graphs.iter().map(|graph| (graph.sagas, graph.known_by, graph.hash == hash)).collect();
    assert_eq!(known, [(0, 1, false), (1, 0, true)]);
    assert_eq!(graphs[0].processes[0].id, test.engine.worker());
    test.close().await;
}

/// The topmost saga was given up, and its cancel has not reached its child: what that has completed may still be
/// undone.
#[tokio::test]
async fn a_completed_grandchild_is_in_flight_as_long_as_an_ancestor_may_undo_it() {
    const TOUR: engine::SagaName<Order> = engine::SagaName::new("tour");
    let (_database, pool) = fixtures::database().await;
    let tour =
        || Saga::named(TOUR).pivot(super::Seal).child("trip", TRIP.child(Order::clone)).build().unwrap();
    let test = TestEngine::build(slow_trips(&pool).register(tour()));
    let id = test.engine.start(TOUR.with(&Order::of("ada"))).await.unwrap().saga_id;
    fixtures::holds(
        &pool,
        "select exists (select from engine.saga where definition = 'book-flight' and status = 'completed')",
    )
    .await;
    super::waits_for_children(&pool, id).await;
    test.close().await;
    sqlx::query(
        "update engine.saga set status = 'dead', ended_at = now(), waits_for = null, wakes_at_open = null \
             where id = $1",
    )
    .bind(id.0)
    .execute(&pool)
    .await
    .unwrap();
    let kinds = async |engine: &Engine| {
        let kinds = engine.check_in_flight().await.unwrap();
        kinds.into_iter().map(|kind| (kind.definition, kind.status, kind.prospect)).collect::<Vec<_>>()
    };
    let checks = slow_trips(&pool).register(tour()).build().unwrap();
    let goes_on = |name: &str, status| (name.to_owned(), status, Prospect::GoesOn);
    assert_eq!(
        kinds(&checks).await,
        [
            goes_on("book-flight", Status::Completed),
            goes_on("book-hotel", Status::Running),
            goes_on("trip", Status::Running)
        ]
    );
    // Past its pivot a saga undoes nothing, nor does what stands behind it.
    sqlx::query(
        "update engine.saga set status = 'completed', waits_for = null, ended_at = now(), \
         wakes_at_open = null where definition = 'trip'",
    )
    .execute(&pool)
    .await
    .unwrap();
    sqlx::query("update engine.saga set ended_at = null where id = $1")
        .bind(id.0)
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(
        kinds(&checks).await.into_iter().map(|(name, ..)| name).collect::<Vec<_>>(),
        ["book-hotel", "tour"]
    );
    checks.shutdown().await;
}
