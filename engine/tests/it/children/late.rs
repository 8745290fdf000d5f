//! Children that complete before they have heard that their parent compensates.

use engine::{CancelOutcome, Engine, Saga, SagaId, SagaName, Status};

use super::{
    Order, TRIP, TestEngine,
    compensates::{flight_is_booked, slow_trips},
    fixtures, left_behind, verified, waits_for_children,
};
use crate::{
    it::fixtures::{ExternalWorld, TestInput},
    support::WAIT_TIMEOUT,
};

const CHILD_IS_CANCELLED: &str =
    "select exists (select from engine.saga where definition = 'sends' and cancel is not null)";

/// A parent that waits for its child, whose last step is a call that is running and answers only when it is told to.
async fn sending(pool: &sqlx::PgPool, world: &ExternalWorld) -> (TestEngine, SagaId) {
    const SENDS: SagaName<TestInput> = SagaName::new("sends");
    const PARENT: SagaName<TestInput> = SagaName::new("parent-of-sends");
    world.answers.send_replace(false);
    let child =
        Saga::named(SENDS).then(fixtures::Pack).then_call(fixtures::Send(world.clone())).build().unwrap();
    let parent = Saga::named(PARENT).child("send-it", SENDS.child(TestInput::clone)).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(parent).register(child));
    let id = test.engine.start(PARENT.with(&TestInput::default())).await.unwrap().saga_id;
    while world.sent.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    waits_for_children(pool, id).await;
    (test, id)
}

/// The last step of a child is a call that is running while its parent is cancelled: the child completes in the very
/// batch that reads the cancel.
#[tokio::test]
async fn a_child_that_completes_while_its_parent_is_cancelled_is_undone() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let (test, id) = sending(&pool, &world).await;
    assert_eq!(test.engine.cancel(id, "ada", "no").await.unwrap(), CancelOutcome::Compensating);
    fixtures::holds(&pool, CHILD_IS_CANCELLED).await;
    world.answers.send_replace(true);
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(*world.sent.lock().unwrap(), *world.taken_back.lock().unwrap());
    assert_eq!(fixtures::effects(&pool, "pack").await, 0);
    verified(&test.engine).await;
    test.close().await;
}

/// An operator's cancel that came too late must not take the parent's with it.
#[tokio::test]
async fn a_late_cancel_of_an_operator_does_not_keep_a_child_from_being_undone() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(slow_trips(&pool));
    let id = test.engine.start(TRIP.with(&Order::of("ada"))).await.unwrap().saga_id;
    flight_is_booked(&pool, id).await;
    // As if it had been noted while another transaction held the child.
    sqlx::query(
        "insert into engine.inbox (saga_id, kind, name, key, payload) \
         select id, 'cancel', '', '', '{\"actor\": \"bob\", \"reason\": \"no\", \"drop_if_late\": true}' \
         from engine.saga where definition = 'book-flight'",
    )
    .execute(&pool)
    .await
    .unwrap();
    test.engine.cancel(id, "ada", "no").await.unwrap();
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(left_behind(&pool).await, 0);
    verified(&test.engine).await;
    test.close().await;
}

/// A process that does not know how to undo a child takes its cancel for a late one: it is sent again.
#[tokio::test]
async fn a_child_that_was_told_in_vain_is_told_again() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(slow_trips(&pool));
    let id = test.engine.start(TRIP.with(&Order::of("ada"))).await.unwrap().saga_id;
    flight_is_booked(&pool, id).await;
    sqlx::query(
        "insert into engine.inbox (saga_id, kind, name, key, payload, state, settled_at) \
         select c.id, 'cancel', '', 'parent', jsonb_build_object('actor', 'saga', 'reason', 'no', 'drop_if_late', \
         true, \
             'parent', jsonb_build_object('saga', c.parent_id, 'cause', \
             jsonb_build_object('kind', 'deadline_passed'))), \
             'too_late', now() from engine.saga c where definition = 'book-flight'",
    )
    .execute(&pool)
    .await
    .unwrap();
    test.engine.cancel(id, "ada", "no").await.unwrap();
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(left_behind(&pool).await, 0);
    verified(&test.engine).await;
    test.close().await;
}

/// As before, but the child completes only after its parent has gone to wait, and no process tells of it.
#[tokio::test]
async fn a_child_that_completes_after_it_was_told_in_vain_is_told_again() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let (test, id) = sending(&pool, &world).await;
    test.engine.cancel(id, "ada", "no").await.unwrap();
    fixtures::holds(&pool, CHILD_IS_CANCELLED).await;
    fixtures::holds(
        &pool,
        "select exists (select from engine.saga where waits_for = 'children' and direction = 'undo')",
    )
    .await;
    // As an older process does that knows no parents.
    sqlx::raw_sql(
        "update engine.inbox set state = 'too_late', settled_at = now(); update engine.saga set cancel = null;",
    )
    .execute(&pool)
    .await
    .unwrap();
    world.answers.send_replace(true);
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(*world.sent.lock().unwrap(), *world.taken_back.lock().unwrap());
    verified(&test.engine).await;
    test.close().await;
}
