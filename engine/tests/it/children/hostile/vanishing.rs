//! Processes that vanish, race, or lack the code.

use super::*;

/// The parent and its children run in two processes and two queues; the parent is cancelled half-way.
#[tokio::test]
async fn a_parent_elsewhere_is_cancelled_half_way_through_its_items() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let parent = || {
        Saga::named(MANY)
            .then(Beta(world.clone()))
            .for_each("each", ROW.each(Task::rows).at_most(50))
            .returns_output()
            .build()
            .unwrap()
    };
    let rows = || {
        Saga::named(ROW).queue("rows").then(Alpha(world.clone())).then(Gamma(world.clone())).build().unwrap()
    };
    let parents = Process::on(&["default"], builder(&pool).register(parent()).register(rows()));
    let children = Process::on(&["rows"], builder(&pool).register(rows()));
    let id = parents.engine.start(MANY.with(&Task::items(300, &[]))).await.unwrap().saga_id;
    soon(
        &pool,
        "select count(*) > 150 from engine.saga where parent_id is not null and status = 'completed'",
    )
    .await;
    children.engine.cancel(id, "ada", "by one that has no code").await.unwrap();
    let ended = ending(&parents.engine, id).await;
    assert_eq!(ended.status, Status::Compensated);
    let opened = number(&pool, "select count(*) from engine.saga where parent_id is not null").await;
    assert!(opened < 300, "{opened} were opened");
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 0);
    facts(&pool, &parents.engine).await;
    parents.close().await;
    children.close().await;
}

/// Both processes vanish again and again while the items are undone.
#[tokio::test]
async fn an_undo_of_many_survives_whatever_vanishes() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let parent = || {
        Saga::named(MANY)
            .then(Beta(world.clone()))
            .for_each("each", ROW.each(Task::rows).at_most(60))
            .then(Gamma(world.clone()))
            .returns(|each: &EachEnded| *each)
            .build()
            .unwrap()
    };
    let start = || Process::start(builder(&pool).register(parent()).register(row(&world)));
    let mut test = start();
    let id = test.engine.start(MANY.with(&Task::items(700, &[]).no("gamma"))).await.unwrap().saga_id;
    for undone in [1, 100, 250, 499, 501, 650] {
        soon(&pool, &format!("select count(*) >= {undone} from effect where change = -1")).await;
        test.vanish(&pool).await;
        test = start();
    }
    assert_eq!(ending(&test.engine, id).await.status, Status::Compensated);
    all_end(&pool).await;
    assert_eq!(number(&pool, "select count(*) from effect where step = 'alpha'").await, 1400);
    assert_eq!(left_behind(&pool).await, 0);
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// Two processes race on the same parents, and one vanishes from time to time.
#[tokio::test]
async fn two_processes_race_on_the_same_parents() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let start = || Process::start(builder(&pool).register(many(3)).register(row(&world)));
    let (first, mut second) = (start(), start());
    let mut ids = Vec::new();
    for nth in 0..40_u32 {
        let bad = if nth % 4 == 0 { vec![nth % 12] } else { vec![] };
        ids.push((nth, first.engine.start(MANY.with(&Task::items(12, &bad))).await.unwrap().saga_id));
    }
    for ended in [60, 200] {
        soon(&pool, &format!("select count(*) >= {ended} from engine.saga where ended_at is not null")).await;
        second.vanish(&pool).await;
        second = start();
    }
    for (nth, id) in ids {
        let wanted = if nth % 4 == 0 { Status::Compensated } else { Status::Completed };
        assert_eq!(ending(&first.engine, id).await.status, wanted);
    }
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 30 * 12);
    facts(&pool, &first.engine).await;
    first.close().await;
    second.close().await;
}

#[tokio::test]
async fn children_end_while_no_process_has_the_code_of_their_parent() {
    for fails in [false, true] {
        let (_database, pool) = fixtures::database().await;
        let world = Arc::new(World::default());
        let test = pairs(&pool, &world);
        let task = Task::of("x");
        let id = test.engine.start(PAIR.with(&task)).await.unwrap().saga_id;
        waits_for_children(&pool, id).await;
        slow_row_waits(&pool).await;
        let slow_id = child(&pool, "definition = 'slow-row'").await;
        test.vanish(&pool).await;
        let alone = Process::start(builder(&pool).register(row(&world)).register(slow(&world)));
        if fails {
            alone.engine.cancel(slow_id, "ada", "no").await.unwrap();
        } else {
            alone.engine.signal(slow_id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
        }
        soon(
            &pool,
            "select count(*) = 2 from engine.saga where parent_id is not null and ended_at is not null",
        )
        .await;
        assert_eq!(alone.engine.saga(id).await.unwrap().unwrap().status, Status::Running);
        let test = pairs(&pool, &world);
        let ended = ending(&test.engine, id).await;
        assert_eq!(ended.status, if fails { Status::Compensated } else { Status::Completed });
        all_end(&pool).await;
        assert_eq!(left_behind(&pool).await, if fails { 0 } else { 3 });
        facts(&pool, &test.engine).await;
        alone.close().await;
        test.close().await;
    }
}

/// A completed child whose code no process has is undone once one has it.
#[tokio::test]
async fn a_completed_child_whose_graph_is_gone_is_undone_when_it_is_back() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let test = pairs(&pool, &world);
    let id = test.engine.start(PAIR.with(&Task::of("x"))).await.unwrap().saga_id;
    row_has_completed(&pool).await;
    waits_for_children(&pool, id).await;
    test.vanish(&pool).await;
    let newer = || Saga::named(ROW).then(Gamma(world.clone())).then(Alpha(world.clone())).build().unwrap();
    let without =
        Process::start(builder(&pool).register(pair(&world)).register(newer()).register(slow(&world)));
    without.engine.cancel(id, "ada", "no").await.unwrap();
    soon(&pool, "select ended_at is not null from engine.saga where definition = 'slow-row'").await;
    waits_for_children(&pool, id).await;
    let with = Process::start(
        builder(&pool).register(pair(&world)).register(newer()).also(row(&world)).register(slow(&world)),
    );
    assert_eq!(ending(&with.engine, id).await.status, Status::Compensated);
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 0);
    facts(&pool, &with.engine).await;
    without.close().await;
    with.close().await;
}

/// The parent and the children are deployed anew between two refills, with other graphs.
#[tokio::test]
async fn a_deploy_between_two_refills_leaves_parents_and_children_with_their_graphs() {
    for fails in [false, true] {
        let (_database, pool) = fixtures::database().await;
        let world = Arc::new(World::default());
        let first_parent = || {
            Saga::named(MANY)
                .then(Beta(world.clone()))
                .for_each("each", ROW.each(Task::rows).at_most(10))
                .then(Gamma(world.clone()))
                .returns(|each: &EachEnded| *each)
                .build()
                .unwrap()
        };
        let second_parent = || {
            Saga::named(MANY)
                .for_each("each", ROW.each(Task::rows).at_most(7))
                .then(Beta(world.clone()))
                .returns(|each: &EachEnded| *each)
                .build()
                .unwrap()
        };
        let second_row =
            || Saga::named(ROW).then(Gamma(world.clone())).then(Alpha(world.clone())).build().unwrap();
        let task = Task::items(200, &[]);
        let task = if fails { task.no("gamma") } else { task };
        let test = Process::start(builder(&pool).register(first_parent()).register(row(&world)));
        let id = test.engine.start(MANY.with(&task)).await.unwrap().saga_id;
        soon(
            &pool,
            "select count(*) > 60 from engine.saga where parent_id is not null and status = 'completed'",
        )
        .await;
        test.vanish(&pool).await;
        let test = Process::start(
            builder(&pool)
                .register(second_parent())
                .also(first_parent())
                .register(second_row())
                .also(row(&world)),
        );
        let other = test.engine.start(MANY.with(&Task::items(30, &[]))).await.unwrap().saga_id;
        assert_eq!(
            ending(&test.engine, id).await.status,
            if fails { Status::Compensated } else { Status::Completed }
        );
        assert_eq!(ending(&test.engine, other).await.status, Status::Completed);
        all_end(&pool).await;
        let graphs = number(
            &pool,
            &format!("select count(distinct graph_hash) from engine.saga where parent_id = '{id}'"),
        )
        .await;
        assert_eq!(graphs, 2);
        let of_it = format!(
            "select coalesce(sum(change), 0)::bigint from effect e join engine.saga s on s.id = e.saga_id \
                 where s.root_id = '{id}' or s.id = '{id}'"
        );
        if fails {
            assert_eq!(number(&pool, &of_it).await, 0);
        }
        facts(&pool, &test.engine).await;
        test.close().await;
    }
}

/// A list that takes many commits to open is cancelled in between, beside others in the same batch.
#[tokio::test]
async fn a_cancel_between_two_commits_that_open_children_leaves_none_behind() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let parent = || {
        Saga::named(MANY)
            .for_each("each", ROW.each(Task::rows).at_most(10_000))
            .returns_output()
            .build()
            .unwrap()
    };
    let rows = || Saga::named(ROW).queue("rows").then(Alpha(world.clone())).build().unwrap();
    let idle = builder(&pool).register(parent()).register(rows()).build().unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(idle.start(MANY.with(&Task::items(1100, &[]))).await.unwrap().saga_id);
    }
    let test = Process::on(&["default"], builder(&pool).register(parent()).register(rows()));
    soon(&pool, "select count(*) >= 500 from engine.saga where parent_id is not null").await;
    test.engine.cancel(ids[1], "ada", "no").await.unwrap();
    let other = Process::on(&["rows"], builder(&pool).register(rows()));
    for (nth, id) in ids.into_iter().enumerate() {
        let wanted = if nth == 1 { Status::Compensated } else { Status::Completed };
        assert_eq!(ending(&test.engine, id).await.status, wanted);
    }
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 2200);
    facts(&pool, &test.engine).await;
    test.close().await;
    other.close().await;
    idle.shutdown().await;
}

/// A completed child whose parent may still compensate is in flight: without its graph a deploy is at risk.
#[tokio::test]
async fn a_check_before_a_deploy_counts_completed_children_that_may_be_undone() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let test = pairs(&pool, &world);
    let id = test.engine.start(PAIR.with(&Task::of("x"))).await.unwrap().saga_id;
    row_has_completed(&pool).await;
    waits_for_children(&pool, id).await;
    // Nobody ends the wait for children but their ends.
    let skipped = test.engine.skip_wait(id, "ada", "no").await;
    assert!(skipped.is_err(), "{skipped:?}");
    let newer = Saga::named(ROW).then(Gamma(world.clone())).then(Alpha(world.clone())).build().unwrap();
    let next = builder(&pool).register(pair(&world)).register(newer).register(slow(&world)).build().unwrap();
    let found = next.check_in_flight().await.unwrap();
    let row = found.iter().find(|kind| kind.definition == "row");
    assert!(row.is_some_and(|kind| kind.prospect != engine::Prospect::GoesOn), "{found:?}");
    next.shutdown().await;
    test.close().await;
}

/// Children at the borders of what one commit opens and cancels.
#[tokio::test]
async fn as_many_children_as_one_commit_opens_and_one_more_are_undone() {
    for count in [500, 501, 1000] {
        let (_database, pool) = fixtures::database().await;
        let world = Arc::new(World::default());
        let parent = Saga::named(MANY)
            .for_each("each", SLOW.each(Task::rows).at_most(10_000))
            .returns_output()
            .build()
            .unwrap();
        let test = Process::start(builder(&pool).register(parent).register(slow(&world)));
        let id = test.engine.start(MANY.with(&Task::items(count, &[]))).await.unwrap().saga_id;
        soon(&pool, &format!("select count(*) = {count} from engine.saga where waits_for = 'signal'")).await;
        waits_for_children(&pool, id).await;
        test.engine.cancel(id, "ada", "no").await.unwrap();
        assert_eq!(ending(&test.engine, id).await.status, Status::Compensated);
        all_end(&pool).await;
        facts(&pool, &test.engine).await;
        test.close().await;
    }
}
