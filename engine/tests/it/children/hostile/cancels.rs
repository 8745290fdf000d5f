//! Cancels at any moment.

use super::*;

/// Children sleep and wait for signals; their parent is cancelled, goes on, or is told of a time-out.
#[tokio::test]
async fn children_sleep_and_wait_for_signals() {
    const WAITS: SagaName<Task> = SagaName::new("waits");
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let waits = Saga::named(WAITS)
        .then(Alpha(world.clone()))
        .sleep("sleep", LONG)
        .signal("await", APPROVAL.within(LONG))
        .then(Gamma(world.clone()))
        .build()
        .unwrap();
    let parent = Saga::named(MANY)
        .for_each("each", WAITS.each(Task::rows).at_most(5))
        .returns_output()
        .build()
        .unwrap();
    let test = Process::start(builder(&pool).register(parent).register(waits));
    let id = test.engine.start(MANY.with(&Task::items(12, &[]))).await.unwrap().saga_id;
    let cancelled = test.engine.start(MANY.with(&Task::items(12, &[]))).await.unwrap().saga_id;
    soon(&pool, "select count(*) = 10 from engine.saga where waits_for = 'sleep'").await;
    end_waits(&pool).await.unwrap();
    soon(&pool, "select count(*) = 10 from engine.saga where waits_for = 'signal'").await;
    assert_eq!(test.engine.cancel(cancelled, "ada", "no").await.unwrap(), CancelOutcome::Compensating);
    while number(&pool, &format!("select count(*) from engine.saga where id = '{id}' and ended_at is null"))
        .await
        > 0
    {
        let waiting: Vec<uuid::Uuid> = sqlx::query_scalar(
            "select id from engine.saga where parent_id = $1 and waits_for = 'signal' and lease_owner is null",
        )
        .bind(id.0)
        .fetch_all(&pool)
        .await
        .unwrap();
        for one in waiting {
            let _ = test.engine.signal(SagaId(one), APPROVAL.with(&Approval::by("ada"))).await;
        }
        end_waits(&pool).await.unwrap();
        tokio::task::yield_now().await;
    }
    let ended = ending(&test.engine, id).await;
    assert_eq!(MANY.result(&ended).unwrap(), Some(EachEnded { total: 12, completed: 12, failed: 0 }));
    assert_eq!(ending(&test.engine, cancelled).await.status, Status::Compensated);
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 24);
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// A cancel of a child alone fails its parent's step, which names the cause.
#[tokio::test]
async fn a_cancel_of_a_completed_child_is_refused_and_of_an_open_one_fails_its_parent() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let test = pairs(&pool, &world);
    let id = test.engine.start(PAIR.with(&Task::of("x"))).await.unwrap().saga_id;
    row_has_completed(&pool).await;
    waits_for_children(&pool, id).await;
    let (done, open) =
        (child(&pool, "definition = 'row'").await, child(&pool, "definition = 'slow-row'").await);
    let refused = test.engine.cancel(done, "ada", "no").await;
    assert!(refused.is_err(), "{refused:?}");
    test.engine.cancel(open, "ada", "no").await.unwrap();
    let ended = ending(&test.engine, id).await;
    assert!(
        matches!(&ended.cause, Some(Cause::Failed { failure, .. }) if failure.code == "child-failed"),
        "{ended:?}"
    );
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 0);
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// A call that goes on until it hears of a cancel.
struct Long(Arc<AtomicU32>);

impl CallStep for Long {
    const NAME: &'static str = "long";
    const RETRY: engine::RetryPolicy = engine::RetryPolicy { timeout: Duration::from_mins(30), ..QUICK };
    type Input = Task;
    type Output = u32;
    type Undo = Self;

    async fn call(&self, item: &Item<Task>) -> Result<Outcome<u32>, CallError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        item.cancelled().await;
        Ok(Outcome::Retry(Retry::message("stopped")))
    }
}

impl UndoCall<Long> for Long {
    const RETRY: engine::RetryPolicy = QUICK;

    async fn undo(step: &Long, _: &UndoItem<Task, Option<u32>>) -> Result<UndoOutcome, CallError> {
        step.0.fetch_add(100, Ordering::Relaxed);
        Ok(UndoOutcome::Done)
    }
}

/// The call of a child of a child, in another process, hears of the cancel of the topmost saga.
#[tokio::test]
async fn a_long_call_of_a_grandchild_elsewhere_hears_of_the_cancel() {
    const CALLS: SagaName<Task> = SagaName::new("calls");
    const BETWEEN: SagaName<Task> = SagaName::new("between");
    const ABOVE: SagaName<Task> = SagaName::new("above");
    let (_database, pool) = fixtures::database().await;
    let (world, calls) = (Arc::new(World::default()), Arc::new(AtomicU32::new(0)));
    let grandchild = || {
        Saga::named(CALLS)
            .queue("calls")
            .then(Alpha(world.clone()))
            .then_call(Long(calls.clone()))
            .build()
            .unwrap()
    };
    let between = Saga::named(BETWEEN).child("call", CALLS.child(Task::clone)).build().unwrap();
    let above = Saga::named(ABOVE)
        .then(Beta(world.clone()))
        .child("between", BETWEEN.child(Task::clone))
        .build()
        .unwrap();
    let test = Process::start(builder(&pool).register(above).register(between).register(grandchild()));
    let other = Process::on(&["calls"], builder(&pool).register(grandchild()));
    let id = test.engine.start(ABOVE.with(&Task::of("x"))).await.unwrap().saga_id;
    while calls.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    test.engine.cancel(id, "ada", "no").await.unwrap();
    assert_eq!(ending(&test.engine, id).await.status, Status::Compensated);
    assert_eq!(calls.load(Ordering::Relaxed), 101, "called once, undone once");
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 0);
    facts(&pool, &test.engine).await;
    test.close().await;
    other.close().await;
}

/// The last step of a child, held up in its transaction.
#[derive(Clone)]
struct Held(Arc<tokio::sync::Semaphore>, Arc<tokio::sync::Semaphore>);

impl TransactionStep for Held {
    const NAME: &'static str = "held";
    const RETRY: engine::RetryPolicy = QUICK;
    type Input = Task;
    type Output = u8;
    type Undo = Self;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Task>) -> Result<Outcomes<u8>, StepError> {
        fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), "held", 1).await?;
        self.0.add_permits(1);
        self.1.acquire().await.unwrap().forget();
        Ok(batch.decide(|_| Outcome::Done(1)))
    }
}

impl UndoTransaction<Held> for Held {
    const RETRY: engine::RetryPolicy = QUICK;

    async fn undo(_: &Held, tx: &mut Tx<'_>, batch: &UndoBatch<Task, u8>) -> Result<UndoOutcomes, StepError> {
        fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), "held", -1).await?;
        Ok(batch.decide(|_| UndoOutcome::Done))
    }
}

/// The parent is cancelled in the moment in which the child commits its last step; perhaps the child was cancelled,
/// too, just before.
async fn cancelled_while_the_last_step_commits(child_too: bool) {
    const HELD: SagaName<Task> = SagaName::new("held-row");
    const PARENT: SagaName<Task> = SagaName::new("parent");
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let gate = Held(Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let held = Saga::named(HELD).queue("held").then(gate.clone()).build().unwrap();
    let parent =
        Saga::named(PARENT).then(Beta(world.clone())).child("hold", HELD.child(Task::clone)).build().unwrap();
    let test = Process::on(&["default", "held"], builder(&pool).register(parent).register(held));
    let id = test.engine.start(PARENT.with(&Task::of("x"))).await.unwrap().saga_id;
    gate.0.acquire().await.unwrap().forget();
    waits_for_children(&pool, id).await;
    let held = child(&pool, "definition = 'held-row'").await;
    if child_too {
        assert_eq!(test.engine.cancel(held, "eve", "the child").await.unwrap(), CancelOutcome::Requested);
    }
    assert_eq!(test.engine.cancel(id, "ada", "the parent").await.unwrap(), CancelOutcome::Compensating);
    soon(
        &pool,
        &format!(
            "select exists (select from engine.inbox where saga_id = '{held}' and key = 'parent' \
             and state = 'unread')"
        ),
    )
    .await;
    gate.1.add_permits(10);
    let ended = test.engine.wait(id, Duration::from_secs(30)).await.unwrap();
    let inbox: Vec<(String, String)> =
        sqlx::query_as("select key, state from engine.inbox order by id").fetch_all(&pool).await.unwrap();
    assert!(
        ended.is_some(),
        "the parent waits for ever; its child: {:?}, its messages: {inbox:?}",
        children_of(&pool, id).await
    );
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 0);
    facts(&pool, &test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_parent_is_cancelled_while_its_child_commits_its_last_step() {
    cancelled_while_the_last_step_commits(false).await;
}

#[tokio::test]
async fn a_parent_and_its_child_are_cancelled_while_the_child_commits_its_last_step() {
    cancelled_while_the_last_step_commits(true).await;
}

/// Children and their parents are cancelled at the same time.
#[tokio::test]
async fn children_and_parents_are_cancelled_at_once() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let (test, other) = (pairs(&pool, &world), pairs(&pool, &world));
    let mut ids = Vec::new();
    for nth in 0..25 {
        ids.push(test.engine.start(PAIR.with(&Task::of(&nth.to_string()))).await.unwrap().saga_id);
    }
    for id in &ids {
        soon(&pool, &format!("select exists (select from engine.saga where parent_id = '{id}')")).await;
        let children: Vec<uuid::Uuid> = sqlx::query_scalar("select id from engine.saga where parent_id = $1")
            .bind(id.0)
            .fetch_all(&pool)
            .await
            .unwrap();
        let of_children = async {
            for one in children {
                let _ = other.engine.cancel(SagaId(one), "eve", "the child").await;
            }
        };
        let _ = tokio::join!(test.engine.cancel(*id, "ada", "the parent"), of_children);
    }
    for id in ids {
        assert_eq!(ending(&test.engine, id).await.status, Status::Compensated);
    }
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 0);
    facts(&pool, &test.engine).await;
    test.close().await;
    other.close().await;
}

/// Writes down what it is told.
struct Told;

impl StatusObserver for Told {
    async fn status_changed(&self, tx: &mut Tx<'_>, changes: &[StatusChange]) -> Result<(), StepError> {
        for change in changes {
            let step = format!("told {}", change.status);
            fixtures::record_effect(tx, vec![change.saga_id.0], &step, 1).await?;
        }
        Ok(())
    }
}

/// A completed child whose deadline is long over is undone because of its parent, and its observer is told once of
/// each.
#[tokio::test]
async fn a_completed_child_is_undone_after_its_own_deadline_and_its_observer_is_told() {
    const PARENT: SagaName<Task> = SagaName::new("parent");
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let rows =
        Saga::named(ROW).deadline(LONG * 2).observed_by(Told).then(Alpha(world.clone())).build().unwrap();
    let parent = Saga::named(PARENT)
        .parallel("both", (ROW.child(Task::clone), SLOW.child(|task: &Task| Task::of(&task.name))))
        .build()
        .unwrap();
    let test = Process::start(builder(&pool).register(parent).register(rows).register(slow(&world)));
    let id = test.engine.start(PARENT.with(&Task::of("x"))).await.unwrap().saga_id;
    row_has_completed(&pool).await;
    waits_for_children(&pool, id).await;
    let row = child(&pool, "definition = 'row'").await;
    sqlx::query("update engine.saga set deadline_at = now() - interval '1 hour' where id = $1")
        .bind(row.0)
        .execute(&pool)
        .await
        .unwrap();
    test.engine.compensate_overdue(100).await.unwrap();
    assert_eq!(test.engine.saga(row).await.unwrap().unwrap().status, Status::Completed);
    test.engine.cancel(id, "ada", "no").await.unwrap();
    assert_eq!(ending(&test.engine, id).await.status, Status::Compensated);
    all_end(&pool).await;
    let cause = test.engine.saga(row).await.unwrap().unwrap().cause;
    assert!(matches!(&cause, Some(Cause::Parent { saga_id, .. }) if *saga_id == id), "{cause:?}");
    let told: Vec<(String, i64)> = sqlx::query_as(
        "select step, count(*) from effect where step like 'told%' group by step order by step",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let once = |status: &str| (format!("told {status}"), 1);
    assert_eq!(told, [once("compensated"), once("compensating"), once("completed")]);
    sqlx::query("delete from effect where step like 'told%'").execute(&pool).await.unwrap();
    assert_eq!(left_behind(&pool).await, 0);
    facts(&pool, &test.engine).await;
    test.close().await;
}
