//! If a parent compensates, so do its children, whether they run or have completed.

use std::sync::{Arc, Mutex};

use engine::{
    CancelOutcome, Cause, DeadJobFilter, DiscardMode, Engine, Page, Prospect, Saga, SagaName, Status,
    StatusChange, StatusObserver, StepError, Tx,
    testing::{Kind, Proof, expire_leases},
};

use super::{
    FLIGHT, HOTEL, Hotel, Order, TRIP, TestEngine, book_flight, children_of, fixtures, left_behind, story,
    trip, trips, verified, waits_for_children,
};
use crate::{
    it::waits::{APPROVAL, Approval, LONG},
    support::WAIT_TIMEOUT,
};

fn compensated(name: &str, position: i32) -> (String, String, i32) {
    (name.into(), "compensated".into(), position)
}

#[tokio::test]
async fn completed_children_are_undone_from_behind_their_last_step() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(trips(&pool));
    let order = Order { fails_after: true, ..Order::of("ada") };
    let (started, ending) = test.engine.start_and_wait(TRIP.with(&order), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Compensated);
    assert_eq!(
        story(&test.engine, started.saga_id).await,
        ["plan", "book opened", "book", "confirm failed", "-book", "-plan"]
    );
    assert_eq!(
        children_of(&pool, started.saga_id).await,
        [compensated("book-flight", 0), compensated("book-hotel", 1)]
    );
    assert_eq!(left_behind(&pool).await, 0);
    let child: uuid::Uuid = sqlx::query_scalar("select id from engine.saga where definition = 'book-flight'")
        .fetch_one(&pool)
        .await
        .unwrap();
    let child = engine::SagaId(child);
    assert_eq!(story(&test.engine, child).await, ["flight", "flight cancelled", "-flight"]);
    let view = test.engine.saga_with_payload(child).await.unwrap().unwrap();
    let Some(Cause::Parent { saga_id: saga, cause }) = view.saga.cause else {
        panic!("its cause is its parent")
    };
    assert_eq!(saga, started.saga_id);
    assert!(matches!(*cause, Cause::Failed { step, .. } if step == "confirm"));
    assert_eq!(view.result, None, "what was undone gives nothing");
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_child_that_fails_has_its_siblings_undone_and_its_parent_compensate() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(trips(&pool));
    for fails in ["flight", "hotel"] {
        let order = Order { fails: Some(fails.into()), ..Order::of("ada") };
        let (started, ending) = test.engine.start_and_wait(TRIP.with(&order), WAIT_TIMEOUT).await.unwrap();
        let ending = ending.unwrap();
        assert_eq!(ending.status, Status::Compensated);
        let Some(Cause::Failed { step, failure }) = ending.cause else { panic!("a step failed") };
        assert_eq!((step.as_str(), failure.code.as_str()), ("book", "child-failed"));
        assert!(failure.message.contains("there is none left"), "{}", failure.message);
        assert_eq!(failure.details["definition"], format!("book-{fails}"));
        assert_eq!(
            story(&test.engine, started.saga_id).await,
            ["plan", "book opened", "book failed", "-book", "-plan"]
        );
        assert_eq!(
            children_of(&pool, started.saga_id).await,
            [compensated("book-flight", 0), compensated("book-hotel", 1)]
        );
        assert_eq!(left_behind(&pool).await, 0);
    }
    verified(&test.engine).await;
    test.close().await;
}

const SLOW_HOTEL: SagaName<Order, super::Booked> = SagaName::new("book-hotel");

/// The hotel waits for an approval before it is booked.
pub(super) fn slow_trips(pool: &sqlx::PgPool) -> engine::EngineBuilder {
    let hotel = Saga::named(SLOW_HOTEL).signal("await-approval", APPROVAL.within(LONG)).then(Hotel);
    let hotel = hotel.returns_output().build().unwrap();
    Engine::builder(pool.clone()).register(trip()).register(book_flight()).register(hotel)
}

/// Waits until the flight of a trip of [`slow_trips`] is booked, and the trip waits for its hotel.
pub(super) async fn flight_is_booked(pool: &sqlx::PgPool, trip: engine::SagaId) {
    fixtures::holds(
        pool,
        "select exists (select from engine.saga where definition = 'book-flight' and status = 'completed')",
    )
    .await;
    waits_for_children(pool, trip).await;
}

#[tokio::test]
async fn a_parent_that_waits_for_its_children_holds_nothing_and_is_cancelled_with_them() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(slow_trips(&pool));
    let id = test.engine.start(TRIP.with(&Order::of("ada"))).await.unwrap().saga_id;
    flight_is_booked(&pool, id).await;
    let view = test.engine.saga(id).await.unwrap().unwrap();
    assert_eq!((view.waits_for.as_deref(), view.wait_until), (Some("children"), None));
    assert_eq!(test.engine.cancel(id, "ada", "changed my mind").await.unwrap(), CancelOutcome::Compensating);
    let ending = test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Compensated);
    assert_eq!(story(&test.engine, id).await, ["plan", "book opened", "book cancelled", "-book", "-plan"]);
    assert_eq!(children_of(&pool, id).await, [compensated("book-flight", 0), compensated("book-hotel", 1)]);
    assert_eq!(left_behind(&pool).await, 0);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_parent_waits_for_its_children_over_restarts() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(slow_trips(&pool));
    let id = test.engine.start(TRIP.with(&Order::of("ada"))).await.unwrap().saga_id;
    waits_for_children(&pool, id).await;
    let dead = test.engine.worker();
    test.engine.shutdown().await;
    expire_leases(&pool, dead).await.unwrap();
    let test = TestEngine::build(slow_trips(&pool));
    fixtures::holds(
        &pool,
        "select exists (select from engine.saga where definition = 'book-hotel' and waits_for = 'signal')",
    )
    .await;
    let hotel: uuid::Uuid = sqlx::query_scalar("select id from engine.saga where definition = 'book-hotel'")
        .fetch_one(&pool)
        .await
        .unwrap();
    test.engine.signal(engine::SagaId(hotel), APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    let ending = test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(TRIP.result(&ending).unwrap().as_deref(), Some("flight ada and hotel ada"));
    verified(&test.engine).await;
    test.close().await;
}

/// A child of a child: the topmost saga compensates, and all its descendants with it.
#[tokio::test]
async fn a_whole_tree_is_undone() {
    const TOUR: SagaName<Order, String> = SagaName::new("tour");
    let (_database, pool) = fixtures::database().await;
    let tour = Saga::named(TOUR)
        .parallel("trips", (TRIP.child(Order::clone), FLIGHT.child(|order: &Order| Order::of(&order.name))))
        .then(super::Grumble)
        .returns(|_: &Order| "fine".to_owned())
        .build()
        .unwrap();
    let test = TestEngine::build(trips(&pool).register(tour));
    for fails_after in [false, true] {
        let order = Order { fails: fails_after.then(|| "grumble".into()), ..Order::of("ada") };
        let (started, ending) = test.engine.start_and_wait(TOUR.with(&order), WAIT_TIMEOUT).await.unwrap();
        let wanted = if fails_after { Status::Compensated } else { Status::Completed };
        assert_eq!(ending.unwrap().status, wanted);
        let tree: Vec<(String, String, i16)> = sqlx::query_as(
            "select definition, status, depth from engine.saga where root_id = $1 order by depth, definition",
        )
        .bind(started.saga_id.0)
        .fetch_all(&pool)
        .await
        .unwrap();
        let row = |name: &str, depth: i16| (name.to_owned(), wanted.name().to_owned(), depth);
        assert_eq!(
            tree,
            [row("book-flight", 1), row("trip", 1), row("book-flight", 2), row("book-hotel", 2)]
        );
        let expected = if fails_after { 0 } else { 4 };
        assert_eq!(left_behind(&pool).await - 4 * i64::from(fails_after), expected);
    }
    verified(&test.engine).await;
    test.close().await;
}

/// Crashes before and after each commit, children that fail, and undos that are repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_of_children_finds_no_violation() {
    let (_database, pool) = fixtures::database().await;
    let definitions = || vec![trip(), book_flight(), super::book_hotel()];
    let report = Proof::of(TRIP.name(), pool, definitions, || TRIP.with(&Order::of("ada")))
        .check(|run| async move {
            let left: i64 = sqlx::query_scalar(
                "select coalesce(sum(change), 0)::bigint from effect e join engine.saga s on s.id = e.saga_id \
                 where s.id = $1 or s.root_id = $1",
            )
            .bind(run.saga_id.0)
            .fetch_one(&run.pool)
            .await
            .map_err(|error| error.to_string())?;
            let wanted = if run.final_status.status == Status::Completed { 3 } else { 0 };
            let children: i64 = sqlx::query_scalar(
                "select count(*) from engine.saga where root_id = $1 and ended_at is null",
            )
            .bind(run.saga_id.0)
            .fetch_one(&run.pool)
            .await
            .map_err(|error| error.to_string())?;
            (left == wanted && children == 0)
                .then_some(())
                .ok_or_else(|| format!("{left} effects, not {wanted}; {children} children have not ended"))
        })
        .run()
        .await
        .unwrap();
    assert!(report.violations.is_empty(), "{report}");
    let of = |step: &str| report.cases.iter().filter(|case| case.step == step).count();
    assert_eq!((of("plan"), of("book"), of("confirm")), (10, 7, 7));
    assert!(report.cases.iter().any(|case| case.kind == Kind::ChildFails));
}

/// Behind the pivot nothing is undone: who discards the parent says what becomes of the children that run.
#[tokio::test]
async fn a_discard_does_not_leave_children_behind() {
    const PARENT: SagaName<Order> = SagaName::new("parent-behind");
    let (_database, pool) = fixtures::database().await;
    let hotel = Saga::named(HOTEL).signal("await-approval", APPROVAL.within(LONG)).then(Hotel);
    let hotel = hotel.returns_output().build().unwrap();
    let parent = Saga::named(PARENT)
        .pivot(super::Seal)
        .parallel("book", (FLIGHT.child(Order::clone), HOTEL.child(Order::clone)))
        .build()
        .unwrap();
    let builder = Engine::builder(pool.clone()).register(parent).register(book_flight()).register(hotel);
    let test = TestEngine::build(builder);
    let order = Order { fails: Some("flight".into()), ..Order::of("ada") };
    let (started, ending) = test.engine.start_and_wait(PARENT.with(&order), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    let page = Page { after: None, limit: 10 };
    let dead = test.engine.dead_jobs(&DeadJobFilter::default(), page).await.unwrap().items;
    let id = dead[0].dead_job_id;
    let refused = test.engine.discard_dead_job(id, DiscardMode::Safe, "ada", "no").await.unwrap_err();
    assert!(refused.to_string().starts_with("1 of its children have not ended"), "{refused}");
    assert_eq!(test.engine.expire_dead_jobs(10).await.unwrap(), 0);
    test.engine.discard_dead_job(id, DiscardMode::Force, "ada", "no").await.unwrap();
    fixtures::holds(&pool, "select count(*) = 0 from engine.saga where ended_at is null").await;
    assert_eq!(
        children_of(&pool, started.saga_id).await,
        [compensated("book-flight", 0), compensated("book-hotel", 1)]
    );
    assert_eq!(left_behind(&pool).await, 0);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn the_deadline_of_a_parent_reaches_its_children() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(slow_trips(&pool));
    let new = TRIP.with(&Order::of("ada")).deadline(LONG);
    let id = test.engine.start(new).await.unwrap().saga_id;
    fixtures::holds(
        &pool,
        &format!("select waits_for = 'children' and due_at = deadline_at from engine.saga where id = '{id}'"),
    )
    .await;
    sqlx::query("update engine.saga set deadline_at = now(), due_at = now() where id = $1")
        .bind(id.0)
        .execute(&pool)
        .await
        .unwrap();
    let ending = test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!((ending.status, ending.cause), (Status::Compensated, Some(Cause::DeadlinePassed)));
    assert_eq!(children_of(&pool, id).await, [compensated("book-flight", 0), compensated("book-hotel", 1)]);
    assert_eq!(left_behind(&pool).await, 0);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_tree_is_deleted_whole_once_all_of_it_has_ended() {
    use engine::Retention;

    let (_database, pool) = fixtures::database().await;
    let test =
        TestEngine::build(slow_trips(&pool).retention(Retention::of(std::time::Duration::from_millis(1))));
    let id = test.engine.start(TRIP.with(&Order::of("ada"))).await.unwrap().saga_id;
    flight_is_booked(&pool, id).await;
    assert_eq!(test.engine.prune_sagas(100).await.unwrap().deleted, 0, "its parent may still undo it");
    test.engine.cancel(id, "ada", "no").await.unwrap();
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    sqlx::query("delete from engine.pruning").execute(&pool).await.unwrap();
    test.engine.prune_sagas(100).await.unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from engine.saga").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 0);
    test.close().await;
}

/// A deploy without the code of a child that has completed would take its undo away.
#[tokio::test]
async fn a_completed_child_is_in_flight_as_long_as_its_parent_may_undo_it() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(slow_trips(&pool));
    let id = test.engine.start(TRIP.with(&Order::of("ada"))).await.unwrap().saga_id;
    flight_is_booked(&pool, id).await;
    let kinds = async |engine: &Engine| {
        let kinds = engine.check_in_flight().await.unwrap();
        kinds.into_iter().map(|kind| (kind.definition, kind.status, kind.prospect)).collect::<Vec<_>>()
    };
    let goes_on = |name: &str, status| (name.to_owned(), status, Prospect::GoesOn);
    assert_eq!(
        kinds(&test.engine).await,
        [
            goes_on("book-flight", Status::Completed),
            goes_on("book-hotel", Status::Running),
            goes_on("trip", Status::Running)
        ]
    );
    test.close().await;
    let without = Engine::builder(pool.clone()).register(super::book_hotel()).build().unwrap();
    assert!(kinds(&without).await.contains(&("book-flight".into(), Status::Completed, Prospect::Unknown)));
    without.shutdown().await;
    let test = TestEngine::build(slow_trips(&pool));
    test.engine.cancel(id, "ada", "no").await.unwrap();
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(kinds(&test.engine).await, [], "nothing of it can be undone any more");
    test.close().await;
}

/// Keeps the statuses that it was told of.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Status>>>);

impl StatusObserver for Told {
    async fn status_changed(&self, _: &mut Tx<'_>, changes: &[StatusChange]) -> Result<(), StepError> {
        self.0.lock().unwrap().extend(changes.iter().map(|change| change.status));
        Ok(())
    }
}

#[tokio::test]
async fn the_observer_of_a_child_is_told_that_it_compensates_after_it_has_completed() {
    let (_database, pool) = fixtures::database().await;
    let told = Told::default();
    let flight =
        Saga::named(FLIGHT).then(super::Flight).returns_output().observed_by(told.clone()).build().unwrap();
    let builder = Engine::builder(pool.clone()).register(trip()).register(super::book_hotel());
    let test = TestEngine::build(builder.register(flight));
    let order = Order { fails_after: true, ..Order::of("ada") };
    let (_, ending) = test.engine.start_and_wait(TRIP.with(&order), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Compensated);
    assert_eq!(*told.0.lock().unwrap(), [Status::Completed, Status::Compensating, Status::Compensated]);
    test.close().await;
}

#[tokio::test]
async fn results_that_are_too_large_together_fail_the_step() {
    const LARGE: SagaName<Order> = SagaName::new("large-together");
    let (_database, pool) = fixtures::database().await;
    let children = (FLIGHT.child(Order::clone), HOTEL.child(Order::clone));
    let parent = Saga::named(LARGE).parallel("book", children).build().unwrap();
    let builder = Engine::builder(pool.clone()).register(parent).register(super::book_hotel());
    let test = TestEngine::build(builder.register(book_flight()).max_payload(1000));
    let (_, ending) =
        test.engine.start_and_wait(LARGE.with(&Order::of(&"x".repeat(700))), WAIT_TIMEOUT).await.unwrap();
    let Some(Cause::Failed { failure, .. }) = ending.unwrap().cause else { panic!("it fails") };
    assert_eq!(failure.code, "output-too-large");
    assert_eq!(left_behind(&pool).await, 0);
    verified(&test.engine).await;
    test.close().await;
}
