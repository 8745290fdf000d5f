//! Readers that fail, hang, write, or give pages that can't be right.

use engine::{Cause, Failure, HistoryOutcome, RetryPolicy};

use super::*;

/// Imports twelve lines, at most four at a time.
async fn faulty(fault: Fault) -> (Failure, Vec<String>, PgPool) {
    let (_database, pool) = database().await;
    insert(&pool, 7, 1..=12).await;
    let mut import = import(&Arc::default(), 4);
    let policy = RetryPolicy { timeout: Duration::from_millis(300), ..QUICK };
    import.set_policy("lines", Direction::Action, policy).unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(import).register(line()));
    let upload = Upload { fault: Some(fault), ..Upload::of(7) };
    let (started, ending) = test.engine.start_and_wait(IMPORT.with(&upload), WAIT_TIMEOUT).await.unwrap();
    let ending = ending.expect("it ends");
    assert_eq!(ending.status, Status::Compensated, "{fault:?}");
    let Some(Cause::Failed { step, failure }) = ending.cause else { panic!("{:?}", ending.cause) };
    assert_eq!(step, "lines");
    assert_eq!(left_behind(&pool).await, 0, "{fault:?}");
    let lines: i64 = sqlx::query_scalar("select count(*) from line").fetch_one(&pool).await.unwrap();
    assert_eq!(lines, 12);
    let story = story(&test.engine, started.saga_id).await;
    verified(&test.engine).await;
    test.close().await;
    (failure, story, pool)
}

/// Each error, panic or time-out is an attempt; with the last one the step fails, and what was opened is undone.
#[tokio::test]
async fn a_reader_that_fails_uses_up_the_attempts_of_its_step() {
    for (fault, why) in [
        (Fault::FailsInSql, "division by zero"),
        (Fault::Fails, "the lines are elsewhere"),
        (Fault::Panics, "what reads the items of `lines` panicked: the reader panics"),
        (Fault::Hangs, "what reads the items of `lines` gave no answer within 300 ms"),
        (Fault::Sleeps, "what reads the items of `lines` gave no answer within 300 ms"),
        (Fault::Writes, "cannot execute DELETE in a read-only transaction"),
    ] {
        let (failure, story, _) = faulty(fault).await;
        assert_eq!(failure.code, Failure::ATTEMPTS_EXHAUSTED, "{fault:?}");
        assert!(failure.message.contains(why), "{fault:?}: {}", failure.message);
        let steps = ["accept", "lines opened", "lines retry", "lines retry", "lines exhausted"];
        assert_eq!(story[..5], steps, "{fault:?}");
    }
}

#[tokio::test]
async fn a_count_that_fails_uses_up_the_attempts_of_its_step() {
    let (failure, story, _) = faulty(Fault::CountsInVain).await;
    assert_eq!(failure.code, Failure::ATTEMPTS_EXHAUSTED);
    assert_eq!(story, ["accept", "lines retry", "lines retry", "lines exhausted", "-accept"]);
}

/// It is not tried again: the code is wrong.
#[tokio::test]
async fn a_page_that_can_not_be_right_fails_the_step() {
    for (fault, why) in [
        (Fault::Repeats, "the page behind 4 items has one that came before, at 0"),
        (Fault::StartsAnew, "the page behind 4 items has one that came before, at 0"),
        (Fault::Doubles, "the page behind 4 items has one that came before, at "),
        (Fault::ExceedsTheLimit, "a page of at most "),
    ] {
        let (failure, story, _) = faulty(fault).await;
        assert_eq!(failure.code, Failure::BAD_PAGE, "{fault:?}: {}", failure.message);
        assert!(failure.message.starts_with(why), "{fault:?}: {}", failure.message);
        assert_eq!(story[..3], ["accept", "lines opened", "lines failed"], "{fault:?}");
    }
    let (failure, _, _) = faulty(Fault::HoldsNul).await;
    assert_eq!(failure.code, Failure::CHILD_FAILED);
    assert!(failure.message.starts_with("its child 4 can't be started: "), "{}", failure.message);
}

#[tokio::test]
async fn a_reader_that_is_mended_goes_on_where_it_was() {
    let (_database, pool) = database().await;
    insert(&pool, 7, 1..=12).await;
    let world = Arc::new(World::default());
    let mut import = import(&world, 4);
    let patient = RetryPolicy { attempts: 1000, ..QUICK };
    import.set_policy("lines", Direction::Action, patient).unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(import).register(line()));
    let upload = Upload { fault: Some(Fault::FailsInSql), ..Upload::of(7) };
    let id = test.engine.start(IMPORT.with(&upload)).await.unwrap().saga_id;
    fixtures::holds(&pool, "select count(*) > 0 from engine.history where outcome = 'retry'").await;
    world.mended.store(true, Ordering::Relaxed);
    assert_eq!(result(&test, id).await, Some(all(12)));
    assert_eq!(opened(&pool, id).await, (1..=12).collect::<Vec<_>>());
    verified(&test.engine).await;
    test.close().await;
}

/// All begin in one batch.
#[tokio::test]
async fn bad_readers_do_no_harm_to_the_others_of_their_batch() {
    let faults = [
        Fault::FailsInSql,
        Fault::Panics,
        Fault::Hangs,
        Fault::Writes,
        Fault::Repeats,
        Fault::ExceedsTheLimit,
        Fault::HoldsNul,
        Fault::CountsInVain,
    ];
    let (_database, pool) = database().await;
    let world = Arc::new(World::default());
    let build = || {
        let mut import = import(&world, 4);
        let policy = RetryPolicy { timeout: Duration::from_millis(300), ..QUICK };
        import.set_policy("lines", Direction::Action, policy).unwrap();
        Engine::builder(pool.clone()).register(import).register(line())
    };
    let idle = build().build().unwrap();
    let mut ids = Vec::new();
    for nth in 0..24 {
        insert(&pool, nth, 1..=12).await;
        let fault = (nth % 3 == 1).then(|| faults[usize::try_from(nth / 3).unwrap()]);
        let upload = Upload { fault, ..Upload::of(nth) };
        ids.push((idle.start(IMPORT.with(&upload)).await.unwrap().saga_id, fault));
    }
    let test = TestEngine::build(build());
    for (id, fault) in ids {
        let ending = test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().expect("it ends");
        let history = test.engine.history(id).await.unwrap().unwrap();
        if fault.is_some() {
            assert_eq!(ending.status, Status::Compensated, "{fault:?}");
            continue;
        }
        assert_eq!(IMPORT.result(&ending).unwrap(), Some(all(12)));
        let outcomes = [HistoryOutcome::Done, HistoryOutcome::Opened, HistoryOutcome::Done];
        let no_attempt_is_lost = history.iter().map(|entry| entry.outcome).take(3).eq(outcomes);
        assert!(no_attempt_is_lost && history.len() == 4, "{history:?}");
    }
    assert_eq!(fixtures::effects(&pool, "write").await, 16 * 12);
    verified(&test.engine).await;
    test.close().await;
    idle.shutdown().await;
}

/// Who has to wait because others read for long has the attempts that it had, no more and no less.
#[tokio::test]
async fn a_reader_that_has_not_had_its_turn_keeps_its_attempts() {
    let (_database, pool) = database().await;
    let upload = |id, fault| Upload { fault: Some(fault), ..Upload::of(id) };
    for id in [7, 8] {
        insert(&pool, id, 1..=12).await;
    }
    let world = Arc::new(World::default());
    let build = |delay| {
        let mut import = import(&world, 4);
        let policy = RetryPolicy { first_delay: delay, max_delay: delay, ..QUICK };
        import.set_policy("lines", Direction::Action, policy).unwrap();
        let builder = Engine::builder(pool.clone()).register(import).register(line());
        builder.lease(Duration::from_secs(8))
    };
    let first = TestEngine::build(build(Duration::from_hours(1)));
    // The older one of a batch reads first.
    let slow = first.engine.start(IMPORT.with(&upload(7, Fault::CountsSlowly))).await.unwrap().saga_id;
    let failing = first.engine.start(IMPORT.with(&upload(8, Fault::CountsInVain))).await.unwrap().saga_id;
    let failed =
        "select count(*) = 2 from engine.saga where attempt = 1 and due_at > now() + interval '1 second'";
    fixtures::holds(&pool, failed).await;
    first.close().await;
    world.mended.store(true, Ordering::Relaxed);
    sqlx::query("update engine.saga set due_at = now()").execute(&pool).await.unwrap();
    let test = TestEngine::build(build(Duration::from_millis(1)));
    assert_eq!(result(&test, slow).await, Some(all(12)));
    let ending = test.engine.wait(failing, WAIT_TIMEOUT).await.unwrap().expect("it ends");
    assert_eq!(ending.status, Status::Compensated);
    let attempts = ["accept", "lines retry", "lines retry", "lines exhausted", "-accept"];
    assert_eq!(story(&test.engine, failing).await, attempts);
    verified(&test.engine).await;
    test.close().await;
}

/// A table that another transaction has locked costs no attempt.
#[tokio::test]
async fn a_reader_that_waits_for_a_lock_costs_no_attempt() {
    let (_database, pool) = database().await;
    insert(&pool, 7, 1..=12).await;
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("lock table line in access exclusive mode").execute(&mut *lock).await.unwrap();
    let test = TestEngine::build(builder(&pool, &Arc::default(), 4));
    let id = test.engine.start(IMPORT.with(&Upload::of(7))).await.unwrap().saga_id;
    fixtures::holds(&pool, "select error like 'waits for a lock%' from engine.saga where parent_id is null")
        .await;
    lock.rollback().await.unwrap();
    assert_eq!(result(&test, id).await, Some(all(12)));
    assert_eq!(story(&test.engine, id).await, ["accept", "lines opened", "lines", "report"]);
    test.close().await;
}

#[tokio::test]
async fn a_reader_is_tested_without_an_engine() {
    let (_database, pool) = database().await;
    insert(&pool, 7, 1..=12).await;
    let mut conn = pool.acquire().await.unwrap();
    let lines = Lines(Arc::default());
    let read = all_items(&lines, &mut conn, &Upload::of(7)).await.unwrap();
    assert_eq!(read.into_iter().map(|line| line.number).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    assert_eq!(all_items(&lines, &mut conn, &Upload::of(8)).await.unwrap(), []);
    for (fault, why) in [
        (Fault::Repeats, "item 2 comes again as item 3"),
        (Fault::StartsAnew, "item 0 comes again as item 3"),
        (Fault::Doubles, "item 3 comes again as item 5"),
        (Fault::ExceedsTheLimit, "a page of at most 1 items has 2"),
        (Fault::HoldsNul, "holds a NUL character, which PostgreSQL can't store"),
    ] {
        let upload = Upload { fault: Some(fault), ..Upload::of(7) };
        let error = all_items(&lines, &mut conn, &upload).await.expect_err("it is wrong");
        assert_eq!(error.to_string(), why, "{fault:?}");
    }
    let writing = Upload { fault: Some(Fault::Writes), ..Upload::of(7) };
    let error = all_items(&lines, &mut conn, &writing).await.expect_err("it may only read");
    let StepError::Database(error) = error else { panic!("{error}") };
    assert!(error.to_string().contains("read-only transaction"), "{error}");
    let miscounted = Upload { fault: Some(Fault::Miscounts), ..Upload::of(7) };
    let error = all_items(&lines, &mut conn, &miscounted).await.expect_err("it is wrong");
    assert_eq!(error.to_string(), "it counts 13 items, and reads 12");
}
