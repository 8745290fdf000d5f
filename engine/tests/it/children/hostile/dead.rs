//! Children and parents that die, and what operators do about them.

use super::*;

/// A child dies in its undo while the undo of its parent waits; the operator retries it, or gives it up.
#[tokio::test]
async fn a_parent_waits_for_a_child_that_died_in_its_undo() {
    for gives_up in [false, true] {
        let (_database, pool) = fixtures::database().await;
        let world = Arc::new(World::default());
        world.stuck.store(true, Ordering::Relaxed);
        let test = pairs(&pool, &world);
        let id = test.engine.start(PAIR.with(&Task::of("stuck"))).await.unwrap().saga_id;
        row_has_completed(&pool).await;
        waits_for_children(&pool, id).await;
        test.engine.cancel(id, "ada", "no").await.unwrap();
        let stuck = child(&pool, "definition = 'row'").await;
        status_of(&pool, stuck, "dead").await;
        soon(&pool, "select ended_at is not null from engine.saga where definition = 'slow-row'").await;
        waits_for_children(&pool, id).await;
        // A second cancel and a deadline change nothing.
        assert_eq!(test.engine.cancel(id, "eve", "no!").await.unwrap(), CancelOutcome::AlreadyCompensating);
        let refused = test
            .engine
            .discard_dead_job(dead_jobs(&test.engine).await[0].dead_job_id, DiscardMode::Safe, "ada", "no")
            .await;
        assert!(refused.is_err(), "what is not undone is not given up unless it is forced: {refused:?}");
        if gives_up {
            let job = dead_jobs(&test.engine).await[0].dead_job_id;
            test.engine.discard_dead_job(job, DiscardMode::Force, "ada", "no").await.unwrap();
        } else {
            retry(&test.engine, stuck).await;
            status_of(&pool, stuck, "dead").await;
            soon(&pool, &format!("select count(*) = 2 from engine.dead_job where saga_id = '{stuck}'")).await;
            world.stuck.store(false, Ordering::Relaxed);
            retry(&test.engine, stuck).await;
        }
        assert_eq!(ending(&test.engine, id).await.status, Status::Compensated);
        all_end(&pool).await;
        assert_eq!(left_behind(&pool).await, i64::from(gives_up), "what it left is the operator's");
        facts(&pool, &test.engine).await;
        test.close().await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    CancelParent,
    Retry,
    Discard,
    RetryInVain,
}

/// A child dies before its own end is decided, because it can't read what is stored; its parent waits.
#[tokio::test]
async fn a_parent_waits_for_a_child_that_died_going_forward() {
    for then in [Then::CancelParent, Then::Retry, Then::Discard, Then::RetryInVain] {
        let (_database, pool) = fixtures::database().await;
        let world = Arc::new(World::default());
        let test = pairs(&pool, &world);
        let id = test.engine.start(PAIR.with(&Task::of("x"))).await.unwrap().saga_id;
        slow_row_waits(&pool).await;
        let slow = child(&pool, "definition = 'slow-row'").await;
        spoil_input(&pool, slow).await;
        test.engine.signal(slow, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
        status_of(&pool, slow, "dead").await;
        waits_for_children(&pool, id).await;
        let job = dead_jobs(&test.engine).await.remove(0).dead_job_id;
        if then == Then::RetryInVain {
            test.engine.retry_dead_job(job, "ada", "again").await.unwrap();
            soon(&pool, "select count(*) = 2 from engine.dead_job").await;
            status_of(&pool, slow, "dead").await;
        }
        mend_input(&pool, slow, &Task::of("x")).await;
        let job = dead_jobs(&test.engine).await.remove(0).dead_job_id;
        let wanted = match then {
            Then::CancelParent | Then::RetryInVain => {
                test.engine.cancel(id, "ada", "no").await.unwrap();
                all_end(&pool).await;
                let late = test.engine.retry_dead_job(job, "ada", "late").await;
                assert!(late.is_err(), "{late:?}");
                let late = test.engine.discard_dead_job(job, DiscardMode::Force, "ada", "late").await;
                assert!(late.is_err(), "{late:?}");
                Status::Compensated
            }
            Then::Retry => {
                test.engine.retry_dead_job(job, "ada", "again").await.unwrap();
                Status::Completed
            }
            Then::Discard => {
                test.engine.discard_dead_job(job, DiscardMode::Safe, "ada", "no").await.unwrap();
                Status::Compensated
            }
        };
        let ended = ending(&test.engine, id).await;
        assert_eq!(ended.status, wanted, "{then:?} {ended:?}");
        all_end(&pool).await;
        let left = if wanted == Status::Completed { 3 } else { 0 };
        assert_eq!(left_behind(&pool).await, left, "{then:?}");
        assert_eq!(dead_jobs(&test.engine).await.len(), 0, "{then:?}");
        facts(&pool, &test.engine).await;
        test.close().await;
    }
}

/// How a settled child that dies and is given up is read.
#[tokio::test]
async fn a_settled_child_that_is_given_up_in_its_undo_is_data() {
    const SETTLES: SagaName<Task, String> = SagaName::new("settles");
    const TWO: SagaName<Task> = SagaName::new("two");
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    world.stuck.store(true, Ordering::Relaxed);
    let two = Saga::named(TWO).then(Alpha(world.clone())).then(Beta(world.clone())).build().unwrap();
    let parent = Saga::named(SETTLES)
        .parallel_settled("both", (TWO.child(Task::clone), ROW.child(|_: &Task| Task::of("fine"))))
        .returns(|Joined((first, second)): &Joined<(ChildEnd<()>, ChildEnd<()>)>| {
            format!("{first:?} {second:?}")
        })
        .build()
        .unwrap();
    let test = Process::start(builder(&pool).register(parent).register(row(&world)).register(two));
    let id = test.engine.start(SETTLES.with(&Task::of("stuck").no("beta"))).await.unwrap().saga_id;
    let stuck = {
        soon(&pool, "select exists (select from engine.saga where definition = 'two' and status = 'dead')")
            .await;
        child(&pool, "definition = 'two'").await
    };
    waits_for_children(&pool, id).await;
    let job = dead_jobs(&test.engine).await.remove(0);
    assert_eq!(job.saga_id, stuck);
    test.engine.discard_dead_job(job.dead_job_id, DiscardMode::Force, "ada", "gone").await.unwrap();
    let ended = ending(&test.engine, id).await;
    assert_eq!(SETTLES.result(&ended).unwrap().as_deref(), Some("GivenUp Completed(())"));
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// A forced discard of a dead parent cancels the children of its children, too; a late cancel is not left unread.
#[tokio::test]
async fn a_forced_discard_reaches_grandchildren() {
    const BEHIND: SagaName<Task> = SagaName::new("behind");
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let parent = Saga::named(BEHIND)
        .pivot(Pivot)
        .parallel("both", (ROW.child(Task::clone), PAIR.child(|_: &Task| Task::of("fine"))))
        .build()
        .unwrap();
    let builder =
        builder(&pool).register(parent).register(pair(&world)).register(row(&world)).register(slow(&world));
    let test = Process::start(builder);
    let id = test.engine.start(BEHIND.with(&Task::of("x").no("alpha"))).await.unwrap().saga_id;
    assert_eq!(ending(&test.engine, id).await.status, Status::Dead);
    slow_row_waits(&pool).await;
    let job = dead_jobs(&test.engine).await.remove(0).dead_job_id;
    assert!(test.engine.discard_dead_job(job, DiscardMode::Safe, "ada", "no").await.is_err());
    // A process without the code knows it from the stored graph.
    let unaware = Engine::builder(pool.clone()).build().unwrap();
    let refused = unaware.discard_dead_job(job, DiscardMode::Safe, "ada", "no").await;
    assert!(matches!(refused, Err(engine::DeadJobError::NotUndone { .. })), "{refused:?}");
    unaware.shutdown().await;
    let done = test.engine.discard_dead_job(job, DiscardMode::Force, "ada", "no").await.unwrap();
    assert_eq!(done.done().unwrap().left_children, LeftChildren { cancelled: 1, go_on: 0 });
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 0);
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// The dead job of a child that died going forward expires: it compensates, and so does its parent.
#[tokio::test]
async fn a_dead_child_that_expires_has_its_parent_compensate() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let test = pairs(&pool, &world);
    let id = test.engine.start(PAIR.with(&Task::of("x"))).await.unwrap().saga_id;
    slow_row_waits(&pool).await;
    let slow = child(&pool, "definition = 'slow-row'").await;
    spoil_input(&pool, slow).await;
    test.engine.signal(slow, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    status_of(&pool, slow, "dead").await;
    sqlx::query("update engine.dead_job set expires_at = now()").execute(&pool).await.unwrap();
    test.engine.expire_dead_jobs(10).await.unwrap();
    assert_eq!(ending(&test.engine, id).await.status, Status::Compensated);
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 0);
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// A parent died before its pivot, with open children: a cancel, a discard and the expiry of its dead job undo them
/// all.
#[tokio::test]
async fn a_parent_that_died_before_its_pivot_takes_its_children_with_it() {
    for how in ["cancel", "discard", "expiry", "deadline"] {
        let (_database, pool) = fixtures::database().await;
        let world = Arc::new(World::default());
        let parent = Saga::named(MANY)
            .then(Beta(world.clone()))
            .for_each("each", SLOW.each(Task::rows).at_most(3))
            .returns_output()
            .build()
            .unwrap();
        let test = Process::start(builder(&pool).register(parent).register(slow(&world)));
        let task = Task::items(9, &[]);
        let id = test.engine.start(MANY.with(&task).deadline(LONG * 3)).await.unwrap().saga_id;
        soon(&pool, "select count(*) = 3 from engine.saga where waits_for = 'signal'").await;
        soon(
            &pool,
            &format!(
                "select waits_for = 'children' and lease_owner is null from engine.saga where id = '{id}'"
            ),
        )
        .await;
        spoil_input(&pool, id).await;
        for position in [0, 1] {
            let one = child(&pool, &format!("parent_position = {position}")).await;
            test.engine.signal(one, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
        }
        status_of(&pool, id, "dead").await;
        mend_input(&pool, id, &task).await;
        let job = dead_jobs(&test.engine).await.remove(0).dead_job_id;
        match how {
            "cancel" => {
                test.engine.cancel(id, "ada", "no").await.unwrap();
            }
            "discard" => {
                if let Err(refused) = test.engine.discard_dead_job(job, DiscardMode::Safe, "ada", "no").await
                {
                    eprintln!("refused: {refused}");
                    test.engine.discard_dead_job(job, DiscardMode::Force, "ada", "no").await.unwrap();
                }
            }
            "expiry" => {
                sqlx::query("update engine.dead_job set expires_at = now()").execute(&pool).await.unwrap();
                assert_eq!(test.engine.expire_dead_jobs(10).await.unwrap(), 1);
            }
            _ => {
                sqlx::query("update engine.saga set deadline_at = now() where id = $1")
                    .bind(id.0)
                    .execute(&pool)
                    .await
                    .unwrap();
                test.engine.compensate_overdue(10).await.unwrap();
            }
        }
        all_end(&pool).await;
        assert_eq!(ending(&test.engine, id).await.status, Status::Compensated, "{how}");
        assert_eq!(left_behind(&pool).await, 0, "{how}");
        facts(&pool, &test.engine).await;
        test.close().await;
    }
}

/// A parent was discarded, and a child that is past its own pivot is dead: the tree is kept until that child has ended.
#[tokio::test]
async fn a_tree_whose_root_was_discarded_is_kept_until_its_last_child_has_ended() {
    const BEHIND: SagaName<Task> = SagaName::new("behind");
    const SEALS: SagaName<Task> = SagaName::new("seals");
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let seals = Saga::named(SEALS)
        .pivot(Pivot)
        .child("row", ROW.child(|task: &Task| task.clone().no("alpha")))
        .build()
        .unwrap();
    let parent = Saga::named(BEHIND)
        .pivot(Pivot)
        .parallel("both", (ROW.child(|task: &Task| task.clone().no("alpha")), SEALS.child(Task::clone)))
        .build()
        .unwrap();
    let test = Process::start(
        builder(&pool)
            .retention(Retention::of(Duration::from_millis(1)))
            .register(parent)
            .register(seals)
            .register(row(&world)),
    );
    let id = test.engine.start(BEHIND.with(&Task::of("x"))).await.unwrap().saga_id;
    status_of(&pool, id, "dead").await;
    soon(&pool, "select exists (select from engine.saga where definition = 'seals' and status = 'dead')")
        .await;
    let seals = child(&pool, "definition = 'seals'").await;
    let job = dead_jobs(&test.engine).await.into_iter().find(|job| job.saga_id == id).unwrap().dead_job_id;
    let refused = test.engine.discard_dead_job(job, DiscardMode::Safe, "ada", "no").await.unwrap_err();
    assert!(refused.to_string().contains("1 of them also if it is forced"), "{refused}");
    let done = test.engine.discard_dead_job(job, DiscardMode::Force, "ada", "no").await.unwrap();
    assert_eq!(done.done().unwrap().left_children, LeftChildren { cancelled: 0, go_on: 1 });
    let audited = number(
        &pool,
        "select count(*) from engine.audit where action = 'discard' and after -> 'left_children' ->> 'go_on' = '1'",
    );
    assert_eq!(audited.await, 1);
    soon(&pool, &format!("select ended_at is not null from engine.saga where id = '{id}'")).await;
    sqlx::query("delete from engine.pruning").execute(&pool).await.unwrap();
    test.engine.prune_sagas(100).await.unwrap();
    assert_eq!(number(&pool, "select count(*) from engine.saga").await, 4, "a child has not ended");
    world.mended.store(true, Ordering::Relaxed);
    retry(&test.engine, seals).await;
    all_end(&pool).await;
    assert_eq!(test.engine.saga(seals).await.unwrap().unwrap().status, Status::Completed);
    facts(&pool, &test.engine).await;
    sqlx::query("delete from engine.pruning").execute(&pool).await.unwrap();
    test.engine.prune_sagas(100).await.unwrap();
    assert_eq!(number(&pool, "select count(*) from engine.saga").await, 0);
    test.close().await;
}
