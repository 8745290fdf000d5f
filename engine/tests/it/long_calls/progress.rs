//! How far a call is.

use std::time::Duration;

use engine::{
    Engine, Item, Outcome, Page, Progress, ReportedProgress, Retention, Retry, SagaFilter, SagaId, Status,
    UndoOutcome,
};
use sqlx::PgPool;

use super::{
    super::{
        fixtures::{self, TestInput, holds},
        retention::{id_of, moved_back, prune},
    },
    IMPORT, Players, Running, bystander,
};
use crate::support::{WAIT_TIMEOUT, as_owner};

/// The progress of a saga as a process sees it.
async fn seen(engine: &Engine, saga_id: SagaId) -> Option<ReportedProgress> {
    engine.saga(saga_id).await.unwrap().expect("it is kept").progress
}

/// Waits until it is stored that so much is done.
async fn stored(pool: &PgPool, saga_id: SagaId, done: u64) {
    let is_stored = format!("select bool_or(done = {done}) from engine.progress where saga_id = '{saga_id}'");
    holds(pool, &is_stored).await;
}

/// Records each statement that writes progress, also if it writes no row.
async fn record_writes(pool: &PgPool) {
    let script = "
        create table written (at timestamptz not null default clock_timestamp());
        grant all on written to public;
        create function record() returns trigger language plpgsql as
            $$ begin insert into written default values; return null; end $$;
        create trigger record after insert on engine.progress for each statement execute function record()";
    as_owner(pool, script).await.unwrap();
}

async fn writes(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from written").fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn another_process_sees_the_newest_progress_while_the_saga_stands_at_the_call() {
    let (_database, pool) = fixtures::database().await;
    let (players, other) = (Players::new(&pool), bystander(&pool));
    let id = players.start().await;
    let import = players.action().await;
    assert_eq!(seen(&other, id).await, None, "it has reported nothing");

    import.item.report_progress(Progress::so_far(1));
    stored(&pool, id, 1).await;
    let first = seen(&other, id).await.unwrap();
    assert_eq!((first.done, first.total, first.note, first.attempt), (1, None, None, 1));
    for done in 2..=40 {
        import.item.report_progress(Progress::of(done, 40).note(format!("file\0 {done}")));
    }
    stored(&pool, id, 40).await;
    let newest = seen(&other, id).await.unwrap();
    assert_eq!((newest.done, newest.total, newest.note.as_deref()), (40, Some(40), Some("file\u{fffd} 40")));
    assert!(newest.at > first.at);
    let page = other.sagas(&SagaFilter::default(), Page { limit: 10, after: None }).await.unwrap();
    assert_eq!(page.items[0].progress, Some(newest.clone()), "a list shows it, too");

    import.answer(Outcome::Retry(Retry::message("not yet")));
    let again = players.action().await;
    assert_eq!(seen(&other, id).await, Some(newest), "it is that of the attempt before");
    again.item.report_progress(Progress::so_far(5).note("茶".repeat(100)));
    stored(&pool, id, 5).await;
    let cut = seen(&other, id).await.unwrap();
    assert_eq!((cut.attempt, cut.total, cut.note), (2, None, Some("茶".repeat(66))));

    again.answer(Outcome::Done(7));
    let publish = players.action().await;
    assert_eq!(seen(&other, id).await, None, "it has left the step");
    publish.item.report_progress(Progress::of(1, 2));
    stored(&pool, id, 1).await;
    assert_eq!(seen(&other, id).await.unwrap().total, Some(2));
    publish.answer(Outcome::Done(8));
    let announce = players.action().await;
    announce.item.report_progress(Progress::of(2, 3));
    stored(&pool, id, 2).await;
    let late = announce.item.clone();
    announce.answer(Outcome::Done(9));
    assert_eq!(other.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(seen(&other, id).await, None, "it has ended");
    late.report_progress(Progress::of(3, 3));
    other.shutdown().await;
    players.test.close().await;
    stored(&pool, id, 2).await;
}

#[tokio::test]
async fn an_undo_has_a_progress_of_its_own_and_that_of_a_dead_saga_is_kept() {
    let (_database, pool) = fixtures::database().await;
    let players = Players::new(&pool);
    let engine = players.test.engine.clone();
    let undone = players.start().await;
    let import = players.action().await;
    import.item.report_progress(Progress::of(3, 10));
    stored(&pool, undone, 3).await;
    engine.cancel(undone, "ann", "no more").await.unwrap();
    import.answer(Outcome::Done(3));
    let undo = players.undo().await;
    assert_eq!(seen(&engine, undone).await, None, "the action's is not the undo's");
    undo.item.report_progress(Progress::of(1, 3).note("taking it back"));
    stored(&pool, undone, 1).await;
    assert_eq!(seen(&engine, undone).await.unwrap().note.as_deref(), Some("taking it back"));
    undo.answer(UndoOutcome::Done);
    assert_eq!(engine.wait(undone, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(seen(&engine, undone).await, None);

    let dies = players.start().await;
    for _ in 0..2 {
        players.action().await.answer(Outcome::Done(1));
    }
    let announce = players.action().await;
    announce.item.report_progress(Progress::of(8, 9));
    stored(&pool, dies, 8).await;
    announce.answer(Outcome::fail("no-audience", "nobody listens"));
    assert_eq!(engine.wait(dies, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Dead);
    assert_eq!(seen(&engine, dies).await.unwrap().done, 8, "an operator sees how far it came");
    players.test.close().await;
}

#[tokio::test]
async fn many_calls_share_one_statement_a_second_and_there_is_none_without_a_report() {
    const SAGAS: usize = 40;
    let (_database, pool) = fixtures::database().await;
    record_writes(&pool).await;
    let players = Players::new(&pool);
    let mut calls = Vec::new();
    for _ in 0..SAGAS {
        players.start().await;
        calls.push(players.action().await);
    }
    assert_eq!(writes(&pool).await, 0, "nothing was reported");

    // One report opens the first second, the others come in it or later.
    calls[0].item.report_progress(Progress::so_far(1));
    stored(&pool, calls[0].item.saga_id, 1).await;
    for done in 2..1000 {
        for call in &calls {
            call.item.report_progress(Progress::of(done, 999));
        }
    }
    holds(&pool, &format!("select count(*) = {SAGAS} from engine.progress where done = 999")).await;
    let pauses: Vec<f64> = sqlx::query_scalar(
        "select extract(epoch from at - lag(at) over (order by at))::float8 from written order by at offset 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(!pauses.is_empty() && pauses.len() < SAGAS, "{pauses:?}");
    // The pauses are measured by another clock than theirs.
    assert!(pauses.iter().all(|pause| *pause > 0.9), "{pauses:?}");

    // What has not changed is not written again: the next report of one saga is the only one in its statement.
    let ctids = "select array_agg(ctid::text order by saga_id) from engine.progress where saga_id <> $1";
    let others = async || -> Vec<String> {
        sqlx::query_scalar(ctids).bind(calls[0].item.saga_id.0).fetch_one(&pool).await.unwrap()
    };
    let before = others().await;
    for call in &calls[1..] {
        call.item.report_progress(Progress::of(999, 999));
    }
    calls[0].item.report_progress(Progress::of(1000, 1000));
    stored(&pool, calls[0].item.saga_id, 1000).await;
    assert_eq!(others().await, before);
    for call in calls {
        call.answer(Outcome::fail("enough", "the test has seen enough"));
    }
    players.test.close().await;
}

/// Ends the lease of a saga and has this process take it over.
async fn take_over(pool: &PgPool, saga_id: SagaId, by: &Players) -> Running<Item<TestInput>, Outcome<u64>> {
    sqlx::query("update engine.saga set lease_until = clock_timestamp() where id = $1")
        .bind(saga_id.0)
        .execute(pool)
        .await
        .unwrap();
    // Its first poll may have been quicker.
    by.test.engine.claim_ids(&[saga_id]).await.unwrap();
    by.action().await
}

/// Ends two sagas of which one was taken over, so that it is undone.
async fn end_both(
    pool: &PgPool,
    new: &Players,
    taken_over: Running<Item<TestInput>, Outcome<u64>>,
    kept: Running<Item<TestInput>, Outcome<u64>>,
) {
    for call in [taken_over, kept] {
        call.answer(Outcome::fail("enough", "the test has seen enough"));
    }
    new.undo().await.answer(UndoOutcome::Done);
    holds(pool, "select count(*) = 2 from engine.saga where status = 'compensated'").await;
}

/// Two calls of one process, of which it will lose one to another process.
struct TwoCalls {
    slow: Players,
    new: Players,
    id: SagaId,
    /// It has reported that one is done.
    lost: Running<Item<TestInput>, Outcome<u64>>,
    kept_id: SagaId,
    kept: Running<Item<TestInput>, Outcome<u64>>,
}

impl TwoCalls {
    async fn running(pool: &PgPool) -> Self {
        let slow = Players::new(pool);
        let id = slow.start().await;
        let lost = slow.action().await;
        lost.item.report_progress(Progress::so_far(1));
        stored(pool, id, 1).await;
        let kept_id = slow.start().await;
        let kept = slow.action().await;
        Self { slow, new: Players::new(pool), id, lost, kept_id, kept }
    }
}

#[tokio::test]
async fn a_process_that_lost_its_claim_writes_nothing() {
    let (_database, pool) = fixtures::database().await;
    let TwoCalls { slow, new, id, lost, kept_id, kept } = TwoCalls::running(&pool).await;
    let taken_over = take_over(&pool, id, &new).await;
    taken_over.item.report_progress(Progress::so_far(2));
    stored(&pool, id, 2).await;

    // What it reports of the other saga shows that it has written.
    lost.item.report_progress(Progress::so_far(90));
    kept.item.report_progress(Progress::so_far(3));
    stored(&pool, kept_id, 3).await;
    assert_eq!(seen(&new.test.engine, id).await.unwrap().done, 2);

    end_both(&pool, &new, taken_over, kept).await;
    lost.answer(Outcome::Done(1));
    slow.test.close().await;
    new.test.close().await;
}

#[tokio::test]
async fn a_claim_that_is_lost_during_the_write_replaces_nothing() {
    let (_database, pool) = fixtures::database().await;
    let TwoCalls { slow, new, id, lost, kept_id, kept } = TwoCalls::running(&pool).await;

    // It has seen that it holds the claim, and waits for the row.
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("update engine.progress set done = 2, epoch = epoch + 1")
        .execute(&mut *holder)
        .await
        .unwrap();
    lost.item.report_progress(Progress::so_far(90));
    let blocked = "select count(*) = 1 from pg_stat_activity where datname = current_database() \
         and wait_event_type = 'Lock' and query like 'insert into engine.progress%'";
    holds(&pool, blocked).await;
    let taken_over = take_over(&pool, id, &new).await;
    holder.commit().await.unwrap();

    kept.item.report_progress(Progress::so_far(3));
    stored(&pool, kept_id, 3).await;
    assert_eq!(seen(&new.test.engine, id).await.unwrap().done, 2);

    end_both(&pool, &new, taken_over, kept).await;
    lost.answer(Outcome::Done(1));
    slow.test.close().await;
    new.test.close().await;
}

#[tokio::test]
async fn progress_is_written_while_another_transaction_holds_the_saga() {
    let (_database, pool) = fixtures::database().await;
    let players = Players::new(&pool);
    let id = players.start().await;
    let import = players.action().await;
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("select from engine.saga where id = $1 for update")
        .bind(id.0)
        .execute(&mut *holder)
        .await
        .unwrap();
    import.item.report_progress(Progress::of(1, 2));
    stored(&pool, id, 1).await;
    holder.rollback().await.unwrap();
    import.answer(Outcome::fail("enough", "the test has seen enough"));
    players.test.close().await;
}

#[tokio::test]
async fn a_report_that_can_not_be_written_stops_no_other_and_no_call() {
    let (_database, pool) = fixtures::database().await;
    let players = Players::new(&pool);
    let mut calls = Vec::new();
    for _ in 0..5 {
        players.start().await;
        calls.push(players.action().await);
    }
    let refusal = "create function refuse() returns trigger language plpgsql as
            $$ begin if new.done = 13 then raise exception 'unlucky'; end if; return new; end $$;
        create trigger refuse before insert or update on engine.progress for each row execute function refuse()";
    as_owner(&pool, refusal).await.unwrap();
    calls[2].item.report_progress(Progress::so_far(13));
    for call in calls.iter().filter(|call| call.item.saga_id != calls[2].item.saga_id) {
        call.item.report_progress(Progress::so_far(12));
    }
    holds(&pool, "select count(*) = 4 from engine.progress where done = 12").await;
    calls[2].item.report_progress(Progress::so_far(14));
    stored(&pool, calls[2].item.saga_id, 14).await;
    for call in calls {
        call.answer(Outcome::fail("enough", "the test has seen enough"));
    }
    holds(&pool, "select count(*) = 5 from engine.saga where status = 'compensated'").await;
    players.test.close().await;
}

#[tokio::test]
async fn what_was_reported_before_the_engine_stops_is_written() {
    let (_database, pool) = fixtures::database().await;
    let players = Players::new(&pool);
    let id = players.start().await;
    let import = players.action().await;
    import.item.report_progress(Progress::so_far(1));
    stored(&pool, id, 1).await;
    import.item.report_progress(Progress::so_far(2));
    players.test.engine.shutdown().await;
    assert_eq!(seen(&players.test.engine, id).await.unwrap().done, 2);
}

#[tokio::test]
async fn progress_is_deleted_with_its_saga() {
    let (_database, pool) = fixtures::database().await;
    let keep = Duration::from_hours(1);
    let players = Players::with(&pool, |builder| builder.retention(Retention::of(keep)));
    let id = id_of(2);
    players.test.engine.start(IMPORT.with(&TestInput::default()).id(id)).await.unwrap();
    let import = players.action().await;
    import.item.report_progress(Progress::so_far(1));
    stored(&pool, id, 1).await;
    import.answer(Outcome::fail("enough", "the test has seen enough"));
    players.test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    moved_back(&pool, id, 2, 1).await;
    assert_eq!(prune(&players.test.engine).await, 1);
    holds(&pool, "select not exists (select from engine.progress)").await;
    players.test.close().await;
}
