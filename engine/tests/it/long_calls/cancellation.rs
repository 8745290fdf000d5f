//! A running call is told that its saga was cancelled, or that its deadline passed.

use std::time::Duration;

use engine::{CancelOutcome, Cause, Item, Outcome, Retry, SagaId, Status, UndoOutcome};
use sqlx::PgPool;

use super::{
    super::{
        fixtures::{self, TestInput, effects},
        step_failures::cause,
    },
    Players, bystander,
};
use crate::support::{WAIT_TIMEOUT, as_owner};

/// An engine that extends its leases often.
fn extending(pool: &PgPool) -> Players {
    Players::with(pool, |builder| builder.lease(Duration::from_secs(3)))
}

async fn is_told(item: &Item<TestInput>) {
    tokio::time::timeout(WAIT_TIMEOUT, item.cancelled()).await.expect("the call is told");
    assert!(item.is_cancelled() && item.cancellation_token().is_cancelled());
}

async fn pass_deadline(pool: &PgPool, saga_id: SagaId) {
    sqlx::query("update engine.saga set deadline_at = clock_timestamp() where id = $1")
        .bind(saga_id.0)
        .execute(pool)
        .await
        .unwrap();
}

/// Waits until the process has extended the lease of a saga, and has acted on what it has seen with that.
async fn extended(pool: &PgPool, saga_id: SagaId) {
    // The second is told before the third is asked for, and sees all that was there before the first.
    for _ in 0..3 {
        let until: chrono::DateTime<chrono::Utc> =
            sqlx::query_scalar("select lease_until from engine.saga where id = $1")
                .bind(saga_id.0)
                .fetch_one(pool)
                .await
                .unwrap();
        let later = format!("select lease_until > '{until}' from engine.saga where id = '{saga_id}'");
        fixtures::holds(pool, &later).await;
    }
}

#[tokio::test]
async fn a_cancel_through_another_process_reaches_the_call_and_its_answer_decides_what_is_undone() {
    let (_database, pool) = fixtures::database().await;
    let (players, other) = (extending(&pool), bystander(&pool));
    let answers = [
        (Outcome::Done(7), Some(Some(7))),
        (Outcome::Retry(Retry::message("stopped")), Some(None)),
        (Outcome::Retry(Retry::snooze(Duration::from_hours(1), "nothing was done")), None),
        (Outcome::fail("stopped", "nothing was done"), None),
    ];
    for (answer, undone) in answers {
        let id = players.start().await;
        let import = players.action().await;
        assert!(!import.item.is_cancelled());
        assert_eq!(other.cancel(id, "ann", "no more").await.unwrap(), CancelOutcome::Requested);
        is_told(&import.item).await;
        let is_fail = matches!(answer, Outcome::Fail(_));
        import.answer(answer);
        if let Some(output) = undone {
            let undo = players.undo().await;
            assert_eq!((undo.item.saga_id, undo.item.output), (id, output));
            undo.answer.send(UndoOutcome::Done).unwrap();
        }
        assert_eq!(other.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
        assert_eq!(effects(&pool, "pack").await, 0);
        let cause = cause(&other, id).await.unwrap();
        assert_eq!(is_fail, matches!(cause, Cause::Failed { .. }), "{cause:?}");
        assert!(is_fail || matches!(cause, Cause::Cancelled { .. }), "{cause:?}");
    }
    other.shutdown().await;
    players.test.close().await;
}

#[tokio::test]
async fn a_deadline_that_passes_reaches_the_call() {
    let (_database, pool) = fixtures::database().await;
    let players = extending(&pool);
    let id = players.start().await;
    let import = players.action().await;
    pass_deadline(&pool, id).await;
    is_told(&import.item).await;
    import.answer(Outcome::Done(1));
    players.undo().await.answer(UndoOutcome::Done);
    assert_eq!(
        players.test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status,
        Status::Compensated
    );
    assert_eq!(cause(&players.test.engine, id).await, Some(Cause::DeadlinePassed));
    players.test.close().await;
}

#[tokio::test]
async fn a_cancel_through_the_same_engine_reaches_the_call_at_once() {
    let (_database, pool) = fixtures::database().await;
    // No extension tells it.
    let players = Players::new(&pool);
    let engine = &players.test.engine;
    let id = players.start().await;
    let import = players.action().await;
    assert_eq!(engine.cancel(id, "ann", "no more").await.unwrap(), CancelOutcome::Requested);
    assert!(import.item.is_cancelled());
    import.answer(Outcome::fail("stopped", "nothing was done"));
    engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();

    // It is noted, because another transaction holds the saga.
    let id = players.start().await;
    let import = players.action().await;
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("select from engine.saga where id = $1 for update")
        .bind(id.0)
        .execute(&mut *holder)
        .await
        .unwrap();
    assert_eq!(engine.cancel(id, "ann", "no more").await.unwrap(), CancelOutcome::Requested);
    assert!(import.item.is_cancelled());
    holder.rollback().await.unwrap();
    import.answer(Outcome::fail("stopped", "nothing was done"));
    assert_eq!(engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    players.test.close().await;
}

#[tokio::test]
async fn a_cancel_that_is_noted_in_the_inbox_reaches_the_call() {
    let (_database, pool) = fixtures::database().await;
    // The task that delivers cancels can't move it to the row.
    let refusal = "create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'it stays in the inbox'; end $$;
        create trigger refuse before update on engine.saga for each row when (new.cancel is not null)
            execute function refuse()";
    as_owner(&pool, refusal).await.unwrap();
    let players = extending(&pool);
    let id = players.start().await;
    let import = players.action().await;
    sqlx::query(
        "insert into engine.inbox (saga_id, kind, name, key, payload) \
         values ($1, 'cancel', '', '', '{\"actor\": \"ann\", \"reason\": \"no more\"}')",
    )
    .bind(id.0)
    .execute(&pool)
    .await
    .unwrap();
    is_told(&import.item).await;
    import.answer(Outcome::fail("stopped", "nothing was done"));
    assert_eq!(
        players.test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status,
        Status::Compensated
    );
    players.test.close().await;
}

#[tokio::test]
async fn the_pivot_and_the_calls_behind_it_are_told_nothing() {
    let (_database, pool) = fixtures::database().await;
    let (players, other) = (extending(&pool), bystander(&pool));
    let id = players.start().await;
    let import = players.action().await;
    extended(&pool, id).await;
    assert!(!import.item.is_cancelled(), "there is no cancel");
    import.answer(Outcome::Done(1));

    // Whether it follows the cancel depends on its answer.
    let publish = players.action().await;
    assert_eq!(other.cancel(id, "ann", "no more").await.unwrap(), CancelOutcome::Requested);
    pass_deadline(&pool, id).await;
    extended(&pool, id).await;
    assert!(!publish.item.is_cancelled());
    publish.answer(Outcome::Done(2));

    let announce = players.action().await;
    pass_deadline(&pool, id).await;
    extended(&pool, id).await;
    assert!(!announce.item.is_cancelled());
    announce.answer(Outcome::Done(3));
    assert_eq!(other.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    other.shutdown().await;
    players.test.close().await;
}
