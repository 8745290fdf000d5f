//! Retries behind the pivot, and before it.

use super::*;

/// The first round ends before it has opened all; the retry opens those, too.
#[tokio::test]
async fn a_retry_behind_the_pivot_also_opens_what_the_first_round_never_opened() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let test = Process::start(builder(&pool).register(many_behind(4)).register(row(&world)));
    let id = test.engine.start(MANY.with(&Task::items(30, &[2]))).await.unwrap().saga_id;
    assert_eq!(ending(&test.engine, id).await.status, Status::Dead);
    let opened = number(&pool, "select count(*) from engine.saga where parent_id is not null").await;
    assert!(opened < 30, "{opened} were opened");
    world.mended.store(true, Ordering::Relaxed);
    retry(&test.engine, id).await;
    let ended = ending(&test.engine, id).await;
    assert_eq!(
        (ended.status, MANY.result(&ended).unwrap()),
        (Status::Completed, Some(EachEnded { total: 30, completed: 30, failed: 0 })),
        "{:?} {:?}",
        test.engine.saga(id).await.unwrap().unwrap().error,
        children_of(&pool, id).await
    );
    assert_eq!(
        number(
            &pool,
            "select count(distinct parent_position) from engine.saga where status = 'completed' \
         and parent_id is not null"
        )
        .await,
        30
    );
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// What computes the items panics at a refill behind the pivot; the operator retries.
#[tokio::test]
async fn items_that_panic_at_a_refill_behind_the_pivot_are_computed_again_after_a_retry() {
    let (_database, pool) = fixtures::database().await;
    let (world, asked) = (Arc::new(World::default()), Arc::new(AtomicU32::new(0)));
    let (mended, counted) = (world.clone(), asked.clone());
    let items = move |task: &Task| {
        let before = counted.fetch_add(1, Ordering::Relaxed);
        assert!(before < 4 || mended.mended.load(Ordering::Relaxed), "the items panic");
        task.rows()
    };
    let parent = Saga::named(MANY)
        .pivot(Pivot)
        .for_each("each", ROW.each(items).at_most(4))
        .returns_output()
        .build()
        .unwrap();
    let test = Process::start(builder(&pool).register(parent).register(row(&world)));
    let id = test.engine.start(MANY.with(&Task::items(20, &[]))).await.unwrap().saga_id;
    assert_eq!(ending(&test.engine, id).await.status, Status::Dead);
    world.mended.store(true, Ordering::Relaxed);
    retry(&test.engine, id).await;
    let ended = ending(&test.engine, id).await;
    assert_eq!(
        MANY.result(&ended).unwrap(),
        Some(EachEnded { total: 20, completed: 20, failed: 0 }),
        "{:?} {:?} {:?}",
        ended,
        test.engine.saga(id).await.unwrap().unwrap().error,
        story(&test.engine, id).await
    );
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// A parallel step behind the pivot whose child fails, is retried in vain, and then completes.
#[tokio::test]
async fn a_parallel_step_behind_the_pivot_is_retried_twice() {
    const BEHIND: SagaName<Task> = SagaName::new("behind");
    const SEALS: SagaName<Task> = SagaName::new("seals");
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let seals = Saga::named(SEALS).then(Beta(world.clone())).pivot(Pivot).build().unwrap();
    let parent = Saga::named(BEHIND)
        .pivot(Pivot)
        .parallel("both", (SEALS.child(|task: &Task| Task::of(&task.name)), ROW.child(Task::clone)))
        .build()
        .unwrap();
    let test = Process::start(builder(&pool).register(parent).register(row(&world)).register(seals));
    let id = test.engine.start(BEHIND.with(&Task::of("x").no("alpha"))).await.unwrap().saga_id;
    assert_eq!(ending(&test.engine, id).await.status, Status::Dead);
    for round in [2, 3] {
        world.mended.store(round == 3, Ordering::Relaxed);
        retry(&test.engine, id).await;
        soon(
            &pool,
            &format!(
                "select count(*) = {round} from engine.saga where definition = 'row' and ended_at is not null"
            ),
        )
        .await;
        soon(&pool, &format!("select status <> 'running' from engine.saga where id = '{id}'")).await;
    }
    assert_eq!(ending(&test.engine, id).await.status, Status::Completed);
    assert_eq!(number(&pool, "select count(*) from engine.saga where definition = 'seals'").await, 1);
    all_end(&pool).await;
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// Before the pivot a parent that died for another reason and is retried is still all or nothing: a child that did not
/// complete fails its step, and is not opened anew.
#[tokio::test]
async fn a_parent_that_died_before_its_pivot_and_is_retried_is_all_or_nothing() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let test = pairs(&pool, &world);
    let id = test.engine.start(PAIR.with(&Task::of("x"))).await.unwrap().saga_id;
    slow_row_waits(&pool).await;
    waits_for_children(&pool, id).await;
    let slow = child(&pool, "definition = 'slow-row'").await;
    spoil_input(&pool, id).await;
    test.engine.cancel(slow, "ada", "no").await.unwrap();
    status_of(&pool, id, "dead").await;
    mend_input(&pool, id, &Task::of("x")).await;
    retry(&test.engine, id).await;
    soon(
        &pool,
        &format!(
            "select ended_at is not null or (select count(*) from engine.saga where definition = 'slow-row') > 1 \
             from engine.saga where id = '{id}'"
        ),
    )
    .await;
    let slows = number(&pool, "select count(*) from engine.saga where definition = 'slow-row'").await;
    assert_eq!(slows, 1, "{:?} {:?}", children_of(&pool, id).await, story(&test.engine, id).await);
    assert_eq!(ending(&test.engine, id).await.status, Status::Compensated);
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// A settled step behind the pivot whose items panic at its last look, after some did not complete.
#[tokio::test]
async fn a_settled_step_behind_the_pivot_that_is_retried_counts_all_of_its_children() {
    let (_database, pool) = fixtures::database().await;
    let (world, seen) = (Arc::new(World::default()), Arc::new(World::default()));
    let mended = seen.clone();
    let items = move |task: &Task| {
        assert!(!mended.stuck.load(Ordering::Relaxed), "the items panic");
        task.rows()
    };
    let parent = Saga::named(MANY)
        .pivot(Pivot)
        .for_each("each", SLOW.each(items).settled())
        .returns_output()
        .build()
        .unwrap();
    let test = Process::start(builder(&pool).register(parent).register(slow(&world)));
    let id = test.engine.start(MANY.with(&Task::items(4, &[]))).await.unwrap().saga_id;
    soon(&pool, "select count(*) = 4 from engine.saga where waits_for = 'signal'").await;
    waits_for_children(&pool, id).await;
    let ids: Vec<uuid::Uuid> =
        sqlx::query_scalar("select id from engine.saga where parent_id is not null order by parent_position")
            .fetch_all(&pool)
            .await
            .unwrap();
    // The parent dies at a claim for which it computes its items; one child is cancelled only afterwards.
    seen.stuck.store(true, Ordering::Relaxed);
    sqlx::query("update engine.saga set due_at = now() where id = $1")
        .bind(id.0)
        .execute(&pool)
        .await
        .unwrap();
    test.engine.claim_ids(&[id]).await.unwrap();
    status_of(&pool, id, "dead").await;
    seen.stuck.store(false, Ordering::Relaxed);
    retry(&test.engine, id).await;
    waits_for_children(&pool, id).await;
    for (nth, one) in ids.into_iter().enumerate() {
        if nth == 0 {
            test.engine.cancel(SagaId(one), "ada", "no").await.unwrap();
        } else {
            test.engine.signal(SagaId(one), APPROVAL.with(&Approval::by("ada"))).await.unwrap();
        }
    }
    // If the one that was cancelled is opened anew, it is cancelled, too.
    loop {
        let open: Option<uuid::Uuid> = sqlx::query_scalar(
            "select id from engine.saga where parent_id is not null and parent_round > 0 \
                 and ended_at is null",
        )
        .fetch_optional(&pool)
        .await
        .unwrap();
        if let Some(open) = open {
            let _ = test.engine.cancel(SagaId(open), "ada", "no").await;
        }
        if number(&pool, &format!("select count(*) from engine.saga where id = '{id}' and ended_at is null"))
            .await
            == 0
        {
            break;
        }
        tokio::task::yield_now().await;
    }
    let ended = ending(&test.engine, id).await;
    assert_eq!(
        MANY.result(&ended).unwrap(),
        Some(EachEnded { total: 4, completed: 3, failed: 1 }),
        "{:?}",
        children_of(&pool, id).await
    );
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// As `a_parent_that_died_before_its_pivot_and_is_retried_is_all_or_nothing`, where the step itself can't be read.
#[tokio::test]
async fn a_for_each_that_died_before_the_pivot_and_is_retried_is_all_or_nothing() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let parent = Saga::named(MANY).for_each("each", SLOW.each(Task::rows)).returns_output().build().unwrap();
    let test = Process::start(builder(&pool).register(parent).register(slow(&world)));
    let task = Task::items(3, &[]);
    let id = test.engine.start(MANY.with(&task)).await.unwrap().saga_id;
    soon(&pool, "select count(*) = 3 from engine.saga where waits_for = 'signal'").await;
    waits_for_children(&pool, id).await;
    spoil_input(&pool, id).await;
    let one = child(&pool, "parent_position = 1").await;
    test.engine.cancel(one, "ada", "no").await.unwrap();
    status_of(&pool, id, "dead").await;
    mend_input(&pool, id, &task).await;
    retry(&test.engine, id).await;
    soon(
        &pool,
        &format!(
            "select ended_at is not null or exists (select from engine.saga where parent_round > 0) \
                 from engine.saga where id = '{id}'"
        ),
    )
    .await;
    let again = number(&pool, "select count(*) from engine.saga where parent_round > 0").await;
    assert_eq!(again, 0, "{:?} {:?}", children_of(&pool, id).await, story(&test.engine, id).await);
    assert_eq!(ending(&test.engine, id).await.status, Status::Compensated);
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// Behind the pivot a cancel of the parent is refused and its children go on; a child alone may be cancelled.
#[tokio::test]
async fn a_cancel_behind_the_pivot_leaves_the_children_alone() {
    const BEHIND: SagaName<Task> = SagaName::new("behind");
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let parent = Saga::named(BEHIND)
        .child("before", ROW.child(Task::clone))
        .pivot(Pivot)
        .child("after", SLOW.child(Task::clone))
        .build()
        .unwrap();
    let test = Process::start(builder(&pool).register(parent).register(row(&world)).register(slow(&world)));
    let id = test.engine.start(BEHIND.with(&Task::of("x"))).await.unwrap().saga_id;
    slow_row_waits(&pool).await;
    waits_for_children(&pool, id).await;
    let refused = test.engine.cancel(id, "ada", "no").await;
    assert!(refused.is_err(), "{refused:?}");
    let before = child(&pool, "definition = 'row'").await;
    let refused = test.engine.cancel(before, "ada", "no").await;
    assert!(refused.is_err(), "{refused:?}");
    let slow = child(&pool, "definition = 'slow-row'").await;
    test.engine.cancel(slow, "ada", "no").await.unwrap();
    status_of(&pool, id, "dead").await;
    retry(&test.engine, id).await;
    slow_row_waits(&pool).await;
    let again = child(&pool, "definition = 'slow-row' and ended_at is null").await;
    test.engine.signal(again, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    assert_eq!(ending(&test.engine, id).await.status, Status::Completed);
    assert_eq!(left_behind(&pool).await, 2);
    facts(&pool, &test.engine).await;
    test.close().await;
}
