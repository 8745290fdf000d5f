//! What computes the items, and what is too large.

use super::*;

#[tokio::test]
async fn items_that_always_panic_at_a_refill_have_all_undone() {
    let (_database, pool) = fixtures::database().await;
    let (world, asked) = (Arc::new(World::default()), AtomicU32::new(0));
    let items = move |task: &Task| {
        assert!(asked.fetch_add(1, Ordering::Relaxed) < 6, "the items panic");
        task.rows()
    };
    let parent =
        Saga::named(MANY).for_each("each", ROW.each(items).at_most(4)).returns_output().build().unwrap();
    let test = Process::start(builder(&pool).register(parent).register(row(&world)));
    let id = test.engine.start(MANY.with(&Task::items(40, &[]))).await.unwrap().saga_id;
    let ended = ending(&test.engine, id).await;
    assert_eq!(ended.status, Status::Compensated, "{ended:?}");
    all_end(&pool).await;
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// The list has to be the same each time. If it is not, the saga still ends in some way, or an operator is told; it
/// does not wait for ever.
#[tokio::test]
async fn items_that_become_fewer_do_not_make_their_parent_wait_for_ever() {
    let (_database, pool) = fixtures::database().await;
    let (world, asked) = (Arc::new(World::default()), AtomicU32::new(0));
    let items = move |task: &Task| {
        let mut rows = task.rows();
        if asked.fetch_add(1, Ordering::Relaxed) > 3 {
            rows.truncate(3);
        }
        rows
    };
    let parent =
        Saga::named(MANY).for_each("each", ROW.each(items).at_most(8)).returns_output().build().unwrap();
    let test = Process::start(builder(&pool).register(parent).register(row(&world)));
    let id = test.engine.start(MANY.with(&Task::items(40, &[]))).await.unwrap().saga_id;
    let ended = test.engine.wait(id, Duration::from_secs(25)).await.unwrap();
    let view = test.engine.saga(id).await.unwrap().unwrap();
    eprintln!("fewer items: {ended:?} {:?} {:?}", view.error, test.engine.children_of(id).await.unwrap());
    assert!(
        ended.is_some(),
        "{:?}, waits for {:?}, children: {:?}",
        view.status,
        view.waits_for,
        test.engine.children_of(id).await.unwrap()
    );
    test.close().await;
}

#[tokio::test]
async fn items_that_become_more_do_not_break_what_must_hold() {
    let (_database, pool) = fixtures::database().await;
    let (world, asked) = (Arc::new(World::default()), AtomicU32::new(0));
    let items = move |task: &Task| {
        let count = task.count + asked.fetch_add(1, Ordering::Relaxed).min(30);
        Task::items(count, &[]).rows()
    };
    let parent =
        Saga::named(MANY).for_each("each", ROW.each(items).at_most(8)).returns_output().build().unwrap();
    let test = Process::start(builder(&pool).register(parent).register(row(&world)));
    let id = test.engine.start(MANY.with(&Task::items(20, &[]))).await.unwrap().saga_id;
    let _ = ending(&test.engine, id).await;
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// An input above the limit is refused with its size: the step fails.
#[tokio::test]
async fn an_item_above_the_limit_fails_the_step() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let items = |task: &Task| {
        let mut rows = task.rows();
        rows[10].name = "x".repeat(300_000);
        rows
    };
    let parent = Saga::named(MANY)
        .then(Beta(world.clone()))
        .for_each("each", ROW.each(items).at_most(8))
        .returns_output()
        .build()
        .unwrap();
    let test = Process::start(builder(&pool).register(parent).register(row(&world)));
    let id = test.engine.start(MANY.with(&Task::items(20, &[]))).await.unwrap().saga_id;
    let ended = ending(&test.engine, id).await;
    assert_eq!(
        ended.status,
        Status::Compensated,
        "{ended:?} {:?}",
        test.engine.saga(id).await.unwrap().unwrap().error
    );
    all_end(&pool).await;
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// An output and a result above the limit: of a child, and of a step that joins what its children gave.
#[tokio::test]
async fn what_children_give_in_all_is_held_to_the_limit() {
    const GIVES: SagaName<Task, AlphaDone> = SagaName::new("gives");
    const JOINS: SagaName<Task> = SagaName::new("joins");
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let gives = Saga::named(GIVES).then(Alpha(world.clone())).returns_output().build().unwrap();
    let joins = Saga::named(JOINS)
        .then(Beta(world.clone()))
        .parallel("join", (GIVES.child(Task::clone), GIVES.child(Task::clone)))
        .build()
        .unwrap();
    let test = Process::start(builder(&pool).register(joins).register(gives));
    // A child whose output is too large.
    let task = Task { size: 300_000, ..Task::of("large") };
    let id = test.engine.start(JOINS.with(&task)).await.unwrap().saga_id;
    let ended = ending(&test.engine, id).await;
    assert_eq!(ended.status, Status::Compensated);
    // Two that are not.
    let task = Task { size: 200_000, ..Task::of("large") };
    let id = test.engine.start(JOINS.with(&task)).await.unwrap().saga_id;
    let ended = ending(&test.engine, id).await;
    let size =
        number(&pool, "select coalesce(max(length(h::text)), 0)::bigint from engine.history_run h").await;
    all_end(&pool).await;
    facts(&pool, &test.engine).await;
    assert_eq!(
        ended.status,
        Status::Compensated,
        "an output of 400 kB was stored (a row of {size} characters)"
    );
    test.close().await;
}

/// A result above the limit.
#[tokio::test]
async fn a_child_whose_result_is_too_large_does_not_leave_its_parent_stuck() {
    const GIVES: SagaName<Task, String> = SagaName::new("gives");
    const READS: SagaName<Task, String> = SagaName::new("reads");
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let gives = Saga::named(GIVES)
        .then(Alpha(world.clone()))
        .returns(|_: &Task| "x".repeat(300_000))
        .build()
        .unwrap();
    let reads = Saga::named(READS)
        .then(Beta(world.clone()))
        .child("give", GIVES.child(Task::clone))
        .returns_output()
        .build()
        .unwrap();
    let test = Process::start(builder(&pool).register(reads).register(gives));
    let id = test.engine.start(READS.with(&Task::of("large"))).await.unwrap().saga_id;
    let ended = ending(&test.engine, id).await;
    let view = test.engine.saga(id).await.unwrap().unwrap();
    eprintln!("a child without its result: {ended:?} {:?} {:?}", view.error, children_of(&pool, id).await);
    if ended.status == Status::Dead {
        assert_eq!(test.engine.cancel(id, "ada", "no").await.unwrap(), CancelOutcome::Compensating);
        all_end(&pool).await;
        assert_eq!(left_behind(&pool).await, 0);
    }
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// Children that end in the commit that opens them, one at a time and many.
#[tokio::test]
async fn children_that_are_one_entry_step_are_opened_and_counted() {
    const ENTERS: SagaName<Task> = SagaName::new("enters");
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    for at_most in [1, 3, 2000] {
        let parent = Saga::named(MANY)
            .for_each("each", ENTERS.each(Task::rows).at_most(at_most).settled())
            .then(Beta(world.clone()))
            .returns(|each: &EachEnded| *each)
            .build()
            .unwrap();
        let enters = Saga::named(ENTERS).entry(Alpha(world.clone())).build().unwrap();
        let test = Process::start(builder(&pool).register(parent).register(enters));
        let count = if at_most == 2000 { 1700 } else { 120 };
        let id = test.engine.start(MANY.with(&Task::items(count, &[3, 77]))).await.unwrap().saga_id;
        let ended = ending(&test.engine, id).await;
        let wanted = EachEnded { total: count, completed: count - 2, failed: 2 };
        assert_eq!(MANY.result(&ended).unwrap(), Some(wanted), "{at_most}: {ended:?}");
        let undone = MANY.with(&Task::items(count, &[3, 77]).no("beta"));
        let id = test.engine.start(undone).await.unwrap().saga_id;
        assert_eq!(ending(&test.engine, id).await.status, Status::Compensated);
        facts(&pool, &test.engine).await;
        test.close().await;
    }
}

/// Entries that are refused and children that fail, at random, in a settled `for_each`; then all is undone.
#[tokio::test]
async fn a_settled_for_each_counts_refused_entries_and_failures() {
    const ENTERS: SagaName<Task> = SagaName::new("enters");
    let mut dice = Dice(4711);
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let enters = Saga::named(ENTERS).entry(Alpha(world.clone())).then(Beta(world.clone())).build().unwrap();
    let rows = |task: &Task| {
        let mut rows = task.rows();
        for row in rows.iter_mut().skip(5).step_by(7) {
            row.no.push("beta".into());
        }
        rows
    };
    let parent = Saga::named(MANY)
        .for_each("each", ENTERS.each(rows).at_most(9).settled())
        .then(Gamma(world.clone()))
        .returns(|each: &EachEnded| *each)
        .build()
        .unwrap();
    let test = Process::start(builder(&pool).register(parent).register(enters));
    for fails in [false, true] {
        let bad: Vec<u32> = (0..150).filter(|_| dice.roll(5) == 0).collect();
        let betas = (5..150).step_by(7).filter(|nth| !bad.contains(nth)).count();
        let failed = u32::try_from(bad.len() + betas).unwrap();
        let task = Task::items(150, &bad);
        let task = if fails { task.no("gamma") } else { task };
        let id = test.engine.start(MANY.with(&task)).await.unwrap().saga_id;
        let ended = ending(&test.engine, id).await;
        if fails {
            assert_eq!(ended.status, Status::Compensated);
        } else {
            let wanted = EachEnded { total: 150, completed: 150 - failed, failed };
            assert_eq!(MANY.result(&ended).unwrap(), Some(wanted));
        }
    }
    all_end(&pool).await;
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// Fewer items than were opened already: the parent must not wait for ever without anybody being told.
#[tokio::test]
async fn fewer_items_than_were_opened_do_not_make_their_parent_wait_for_ever() {
    let (_database, pool) = fixtures::database().await;
    let (world, fewer) = (Arc::new(World::default()), Arc::new(AtomicBool::new(false)));
    let are_fewer = fewer.clone();
    let items = move |task: &Task| {
        let mut rows = task.rows();
        if are_fewer.load(Ordering::Relaxed) {
            rows.truncate(3);
        }
        rows
    };
    let parent = Saga::named(MANY).for_each("each", SLOW.each(items)).returns_output().build().unwrap();
    let test = Process::start(builder(&pool).register(parent).register(slow(&world)));
    let id = test.engine.start(MANY.with(&Task::items(8, &[]))).await.unwrap().saga_id;
    soon(&pool, "select count(*) = 8 from engine.saga where waits_for = 'signal'").await;
    waits_for_children(&pool, id).await;
    fewer.store(true, Ordering::Relaxed);
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar("select id from engine.saga where parent_id is not null")
        .fetch_all(&pool)
        .await
        .unwrap();
    for one in ids {
        test.engine.signal(SagaId(one), APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    }
    let ended = test.engine.wait(id, Duration::from_secs(20)).await.unwrap();
    let view = test.engine.saga(id).await.unwrap().unwrap();
    assert!(
        ended.is_some(),
        "{:?}, waits for {:?}, children: {:?}, {:?}",
        view.status,
        view.waits_for,
        test.engine.children_of(id).await.unwrap(),
        view.error
    );
    test.close().await;
}

/// One parent whose item can't be started does not keep the others of its batch.
#[tokio::test]
async fn a_parent_whose_item_is_too_large_does_not_keep_others() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let parent = || {
        let items = |task: &Task| {
            let mut rows = task.rows();
            if task.extra {
                rows[1].name = "x".repeat(300_000);
            }
            rows
        };
        Saga::named(MANY).for_each("each", ROW.each(items).at_most(8)).returns_output().build().unwrap()
    };
    let idle = builder(&pool).register(parent()).register(row(&world)).build().unwrap();
    let mut ids = Vec::new();
    for nth in 0..20 {
        let task = Task { extra: nth == 7, ..Task::items(4, &[]) };
        ids.push(idle.start(MANY.with(&task)).await.unwrap().saga_id);
    }
    let test = Process::start(builder(&pool).register(parent()).register(row(&world)));
    for (nth, id) in ids.into_iter().enumerate() {
        let wanted = if nth == 7 { Status::Compensated } else { Status::Completed };
        assert_eq!(ending(&test.engine, id).await.status, wanted, "{nth}");
    }
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 19 * 4);
    facts(&pool, &test.engine).await;
    test.close().await;
    idle.shutdown().await;
}
