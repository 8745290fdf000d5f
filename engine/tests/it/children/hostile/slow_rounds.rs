//! Retries behind the pivot while a slow child of an earlier round still runs.

use super::*;

const PAIR_BEHIND: SagaName<Task> = SagaName::new("pair-behind");

/// As [`pairs`], behind the pivot.
fn pairs_behind(pool: &PgPool, world: &Arc<World>) -> Process {
    let parent = Saga::named(PAIR_BEHIND)
        .pivot(Pivot)
        .parallel("both", (ROW.child(Task::clone), SLOW.child(|task: &Task| Task::of(&task.name))))
        .build()
        .unwrap();
    Process::start(builder(pool).register(parent).register(row(world)).register(slow(world)))
}

/// A child of the first round that is slow fails when its parent is in its third: it did not complete, so the parent
/// has not, either.
#[tokio::test]
async fn a_slow_child_that_fails_two_rounds_later_is_not_taken_for_completed() {
    const MIXED: SagaName<Task> = SagaName::new("mixed");
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    // Item 1 waits for an approval, and is then cancelled; item 0 says no until the world is mended.
    let mixed = Saga::named(MIXED)
        .when("waits", |task: &Task| task.extra, |arm| arm.signal("await", APPROVAL.within(LONG)))
        .then(Alpha(world.clone()))
        .build()
        .unwrap();
    let parent = Saga::named(MANY)
        .pivot(Pivot)
        .for_each("each", MIXED.each(Task::rows))
        .returns_output()
        .build()
        .unwrap();
    let test = Process::start(builder(&pool).register(parent).register(mixed));
    let id = test.engine.start(MANY.with(&Task::items(2, &[0]))).await.unwrap().saga_id;
    assert_eq!(ending(&test.engine, id).await.status, Status::Dead);
    retry(&test.engine, id).await;
    status_of(&pool, id, "dead").await;
    soon(
        &pool,
        &format!(
            "select count(*) = 2 from engine.saga where parent_id = '{id}' and parent_position = 0 \
         and ended_at is not null"
        ),
    )
    .await;
    status_of(&pool, id, "dead").await;
    world.mended.store(true, Ordering::Relaxed);
    retry(&test.engine, id).await;
    soon(
        &pool,
        &format!(
            "select exists (select from engine.saga where parent_id = '{id}' and parent_position = 0 \
         and status = 'completed')"
        ),
    )
    .await;
    let slow = child(&pool, "parent_position = 1").await;
    test.engine.cancel(slow, "ada", "no more").await.unwrap();
    soon(&pool, &format!("select ended_at is not null from engine.saga where id = '{slow}'")).await;
    let ended = ending(&test.engine, id).await;
    assert_ne!(
        (ended.status, MANY.result(&ended).unwrap()),
        (Status::Completed, Some(EachEnded { total: 2, completed: 2, failed: 0 })),
        "a child was cancelled, its parent says that both completed: {:?}",
        children_of(&pool, id).await
    );
    assert_eq!(ended.status, Status::Dead, "{:?}", children_of(&pool, id).await);
    test.close().await;
}

/// In the second round a slow child of the first one fails: the parent becomes a dead job, and only an operator opens
/// it anew.
#[tokio::test]
async fn a_slow_child_that_fails_one_round_later_is_not_opened_anew_without_an_operator() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let test = pairs_behind(&pool, &world);
    let id = test.engine.start(PAIR_BEHIND.with(&Task::of("x").no("alpha"))).await.unwrap().saga_id;
    assert_eq!(ending(&test.engine, id).await.status, Status::Dead);
    world.mended.store(true, Ordering::Relaxed);
    retry(&test.engine, id).await;
    row_has_completed(&pool).await;
    waits_for_children(&pool, id).await;
    let slow = child(&pool, "definition = 'slow-row'").await;
    test.engine.cancel(slow, "ada", "no more").await.unwrap();
    soon(
        &pool,
        &format!(
            "select status = 'dead' or (select count(*) > 1 from engine.saga where definition = 'slow-row') \
             from engine.saga where id = '{id}'"
        ),
    )
    .await;
    let dead = test.engine.saga(id).await.unwrap().unwrap().status;
    assert_eq!(dead, Status::Dead, "{:?} {:?}", children_of(&pool, id).await, story(&test.engine, id).await);
    retry(&test.engine, id).await;
    soon(&pool, "select count(*) = 2 from engine.saga where definition = 'slow-row'").await;
    let again = child(&pool, "definition = 'slow-row' and ended_at is null").await;
    test.engine.signal(again, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    assert_eq!(ending(&test.engine, id).await.status, Status::Completed);
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// As above with a fixed child: whatever became of it, an operator can bring the parent to its end.
#[tokio::test]
async fn a_slow_fixed_child_that_fails_two_rounds_later_can_still_be_opened_anew() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let test = pairs_behind(&pool, &world);
    let id = test.engine.start(PAIR_BEHIND.with(&Task::of("x").no("alpha"))).await.unwrap().saga_id;
    assert_eq!(ending(&test.engine, id).await.status, Status::Dead);
    retry(&test.engine, id).await;
    soon(&pool, "select count(*) = 2 from engine.saga where definition = 'row' and ended_at is not null")
        .await;
    status_of(&pool, id, "dead").await;
    // While the parent is dead in its second round, the slow child of the first one fails.
    let first = child(&pool, "definition = 'slow-row'").await;
    test.engine.cancel(first, "ada", "no more").await.unwrap();
    soon(&pool, &format!("select ended_at is not null from engine.saga where id = '{first}'")).await;
    world.mended.store(true, Ordering::Relaxed);
    for _ in 0..4 {
        if test.engine.saga(id).await.unwrap().unwrap().status == Status::Dead {
            retry(&test.engine, id).await;
        }
        soon(
            &pool,
            &format!(
                "select status <> 'running' or waits_for = 'children' and due_at is null and exists \
                 (select from engine.saga where definition = 'slow-row' and ended_at is null) from engine.saga \
                 where id = '{id}'"
            ),
        )
        .await;
        let open: Option<uuid::Uuid> = sqlx::query_scalar(
            "select id from engine.saga where definition = 'slow-row' and ended_at is null",
        )
        .fetch_optional(&pool)
        .await
        .unwrap();
        if let Some(open) = open {
            test.engine.signal(SagaId(open), APPROVAL.with(&Approval::by("ada"))).await.unwrap();
            break;
        }
    }
    let ended = ending(&test.engine, id).await;
    assert_eq!(
        ended.status,
        Status::Completed,
        "{:?} {:?} {:?}",
        test.engine.saga(id).await.unwrap().unwrap().error,
        children_of(&pool, id).await,
        story(&test.engine, id).await
    );
    test.close().await;
}

/// While a child of the first round still runs, the parent is retried, and the child then completes: it is not opened
/// again, and is counted.
#[tokio::test]
async fn a_slow_child_that_completes_rounds_later_is_opened_once() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let test = pairs_behind(&pool, &world);
    let id = test.engine.start(PAIR_BEHIND.with(&Task::of("x").no("alpha"))).await.unwrap().saga_id;
    assert_eq!(ending(&test.engine, id).await.status, Status::Dead);
    for round in 2..5 {
        retry(&test.engine, id).await;
        soon(
            &pool,
            &format!(
                "select count(*) = {round} from engine.saga where definition = 'row' and ended_at is not null"
            ),
        )
        .await;
        status_of(&pool, id, "dead").await;
    }
    world.mended.store(true, Ordering::Relaxed);
    retry(&test.engine, id).await;
    row_has_completed(&pool).await;
    waits_for_children(&pool, id).await;
    let slow = child(&pool, "definition = 'slow-row'").await;
    test.engine.signal(slow, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    assert_eq!(ending(&test.engine, id).await.status, Status::Completed);
    assert_eq!(number(&pool, "select count(*) from engine.saga where definition = 'slow-row'").await, 1);
    facts(&pool, &test.engine).await;
    test.close().await;
}
