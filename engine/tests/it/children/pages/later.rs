//! Tables that change while their rows are read, and tables with too many rows.

use super::*;
use crate::it::waits::{APPROVAL, Approval, LONG};

/// Lines that wait to be approved before they are written.
fn builder(pool: &PgPool, world: &Arc<World>, at_most: u32) -> EngineBuilder {
    let line = Saga::named(IMPORT_LINE).signal("await-approval", APPROVAL.within(LONG)).then(Write);
    Engine::builder(pool.clone()).register(import(world, at_most)).register(line.build().unwrap())
}

/// Approves the lines that wait, until their import has ended.
async fn approve_all(test: &TestEngine, pool: &PgPool, parent: SagaId) {
    let all = async {
        while test.engine.wait(parent, Duration::from_millis(10)).await.unwrap().is_none() {
            let waiting = "select id from engine.saga where waits_for = 'signal'";
            let waiting: Vec<uuid::Uuid> = sqlx::query_scalar(waiting).fetch_all(pool).await.unwrap();
            for id in waiting {
                let approval = APPROVAL.with(&Approval::by("ada")).key("once");
                // It may have gone on meanwhile.
                let _ = test.engine.signal(SagaId(id), approval).await;
            }
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, all).await.expect("it ends");
}

#[tokio::test]
async fn rows_that_are_inserted_meanwhile_get_a_child_if_they_stand_behind_the_last_one() {
    let (_database, pool) = database().await;
    insert(&pool, 7, [10, 20, 30]).await;
    let test = TestEngine::build(builder(&pool, &Arc::default(), 2));
    let id = test.engine.start(IMPORT.with(&Upload::of(7))).await.unwrap().saga_id;
    super::super::waits_for_children(&pool, id).await;
    insert(&pool, 7, [15, 40]).await;
    approve_all(&test, &pool, id).await;
    assert_eq!(result(&test, id).await, Some(all(4)));
    assert_eq!(opened(&pool, id).await, [10, 20, 30, 40], "15 came too late");
    verified(&test.engine).await;
    test.close().await;
}

/// The parent has seen the end of the list, and waits for its children.
#[tokio::test]
async fn a_row_behind_the_end_gets_a_child_as_long_as_others_are_open() {
    let (_database, pool) = database().await;
    insert(&pool, 7, [1, 2, 3]).await;
    let world = Arc::new(World::default());
    let test = TestEngine::build(builder(&pool, &world, 10));
    let id = test.engine.start(IMPORT.with(&Upload::of(7))).await.unwrap().saga_id;
    super::super::waits_for_children(&pool, id).await;
    assert_eq!(world.asked.lock().unwrap().last(), Some(&(Some(3), 7)), "the end was read");
    insert(&pool, 7, [4]).await;
    approve_all(&test, &pool, id).await;
    assert_eq!(result(&test, id).await, Some(all(4)));
    assert_eq!(opened(&pool, id).await, [1, 2, 3, 4]);
    test.close().await;
}

/// How many there will be is not known, and nobody says so.
#[tokio::test]
async fn what_is_shown_meanwhile_are_those_that_were_opened() {
    let (_database, pool) = database().await;
    insert(&pool, 7, 1..=9).await;
    let test = TestEngine::build(builder(&pool, &Arc::default(), 4));
    let id = test.engine.start(IMPORT.with(&Upload::of(7))).await.unwrap().saga_id;
    super::super::waits_for_children(&pool, id).await;
    let lines = test.engine.children_of(id).await.unwrap().remove(0);
    assert_eq!((lines.step.as_str(), lines.open, lines.completed), ("lines", 4, 0));
    let rows = test.engine.child_results(id, "lines", None, 10).await.unwrap().unwrap();
    assert_eq!(rows.items.len(), 4);
    test.close().await;
}

async fn failure(test: &TestEngine, id: SagaId) -> engine::Failure {
    let ending = test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().expect("it ends");
    match ending.cause {
        Some(engine::Cause::Failed { step, failure }) if step == "lines" => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn too_many_rows_are_refused_before_the_first_is_begun_with_their_number() {
    let (_database, pool) = database().await;
    insert(&pool, 7, 1..=10_001).await;
    insert(&pool, 8, 1..=10_000).await;
    let world = Arc::new(World::default());
    let test = TestEngine::build(builder(&pool, &world, 2));
    let id = test.engine.start(IMPORT.with(&Upload::of(7))).await.unwrap().saga_id;
    let failure = failure(&test, id).await;
    assert_eq!(failure.code, "too-many-children");
    assert_eq!(failure.message, "it has 10001 items, and may have 10000");
    assert_eq!(opened(&pool, id).await, [0_i64; 0]);
    assert_eq!(*world.asked.lock().unwrap(), [], "no page was read");
    assert_eq!(left_behind(&pool).await, 0);
    let id = test.engine.start(IMPORT.with(&Upload::of(8))).await.unwrap().saga_id;
    super::super::waits_for_children(&pool, id).await;
    assert_eq!(opened(&pool, id).await, [1, 2], "10,000 may be");
    test.close().await;
}

/// As if all before had been opened.
#[tokio::test]
async fn too_many_rows_that_were_not_counted_are_refused_at_the_last_one_that_may_be() {
    let (_database, pool) = database().await;
    insert(&pool, 7, 1..=4).await;
    let world = Arc::new(World::default());
    let test = TestEngine::build(builder(&pool, &world, 2));
    let upload = Upload { uncounted: true, ..Upload::of(7) };
    let id = test.engine.start(IMPORT.with(&upload)).await.unwrap().saga_id;
    super::super::waits_for_children(&pool, id).await;
    let last = "update engine.saga set parent_position = 9999 where parent_position = 1";
    sqlx::query(last).execute(&pool).await.unwrap();
    approve_all(&test, &pool, id).await;
    let failure = failure(&test, id).await;
    assert_eq!(failure.code, "too-many-children");
    assert_eq!(failure.message, "it has more than 10000 items, and may have 10000");
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(opened(&pool, id).await, [1, 2]);
    assert_eq!(left_behind(&pool).await, 0);
    test.close().await;
}
