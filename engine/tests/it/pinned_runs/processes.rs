//! Each change of a graph with two builds in processes of their own: a run is left by the old build in every state, met by
//! the new one, asked about there, and finished by the old build.
//!
//! All runs of all changes go through it at once, in four processes.

mod builds;
mod cases;
mod trips;

use std::collections::BTreeMap;

use engine::{DeadJobId, SagaId};
use sqlx::PgPool;

use super::Version;
use crate::it::fixtures::{database, holds};
use builds::{Ask, Build, Found, Process};
use cases::{Case, Kind, Wish};
use trips::{CHANGES, Left, Trip, create_world, steps};

/// Worked on by the old build until it is stopped, by the old build until it is killed, and by no process of the old build.
const QUEUES: [&str; 3] = ["stopped", "killed", "idle"];

fn queue_of(left: Left) -> &'static str {
    match left {
        Left::Vanished | Left::VanishedInUndo => "killed",
        Left::Queued => "idle",
        Left::Postponed
        | Left::InDoubt
        | Left::Compensating
        | Left::CompensatingCall
        | Left::Asleep
        | Left::AtSignal
        | Left::DeadAtPivot
        | Left::DeadBehind
        | Left::DeadInUndo => "stopped",
    }
}

async fn start(pool: &PgPool, kinds: &[Kind]) -> Vec<Case> {
    let mut cases = Vec::new();
    for queue in QUEUES {
        let engine = Build::Old.engine(pool, queue);
        for kind in kinds.iter().copied().filter(|kind| queue_of(kind.left) == queue) {
            let new = kind.change.name().with(&Trip { left: kind.left });
            cases.push(Case { kind, id: engine.start(new).await.unwrap().saga_id });
        }
        engine.shutdown().await;
    }
    cases
}

/// Waits until each of these runs is as this condition on its row says.
async fn all_are(pool: &PgPool, cases: &[Case], condition: impl Fn(Left) -> &'static str) {
    for case in cases {
        let condition = condition(case.kind.left);
        holds(pool, &format!("select {condition} from engine.saga s where id = '{}'", case.id)).await;
    }
}

fn stands(left: Left) -> &'static str {
    match left {
        Left::Queued => "epoch = 0",
        Left::Postponed | Left::Compensating => {
            "step = 'ask' and not in_doubt and due_at > now() + interval '1 h'"
        }
        Left::InDoubt | Left::CompensatingCall => {
            "step = 'ask' and in_doubt and due_at > now() + interval '1 h'"
        }
        Left::Vanished => {
            "lease_until is not null and \
             exists (select from world w where w.saga_id = s.id and w.step = 'ask')"
        }
        Left::VanishedInUndo => {
            "lease_until is not null and \
             exists (select from world w where w.saga_id = s.id and w.step = 'ask' and change = -1)"
        }
        Left::Asleep => "waits_for = 'sleep' and lease_until is null",
        Left::AtSignal => "waits_for = 'signal' and lease_until is null",
        Left::DeadAtPivot => "status = 'dead' and step = 'seal'",
        Left::DeadBehind => "status = 'dead' and step = 'file'",
        Left::DeadInUndo => "status = 'dead' and step = 'hotel' and direction = 'undo'",
    }
}

/// Two processes of the old build bring each run to where it is left.
async fn leave(url: &str, pool: &PgPool, cases: &[Case]) {
    let stopped = Process::start(url, Build::Old, &["stopped"]);
    let killed = Process::start(url, Build::Old, &["killed"]);
    let at_pivot: Vec<_> = cases.iter().copied().filter(|case| case.kind.left == Left::DeadAtPivot).collect();
    all_are(pool, &at_pivot, |_| "step = 'seal' and due_at > now() + interval '1 h'").await;
    sqlx::query(
        "update engine.saga set lost_attempts = 5, due_at = now() where step = 'seal' and due_at > now()",
    )
    .execute(pool)
    .await
    .unwrap();
    all_are(pool, cases, stands).await;
    killed.kill().await;
    stopped.stop().await;
    let engine = Build::Old.engine(pool, "stopped");
    for case in cases.iter().filter(|case| case.is_cancelled_before()) {
        engine.cancel(case.id, "ada", "changed her mind").await.unwrap();
    }
    engine.shutdown().await;
    // What was put off for long is due.
    engine::testing::make_all_due(pool).await.unwrap();
}

/// What a process would change of a run by working on it, as text.
async fn rows(pool: &PgPool, ids: &[SagaId], columns: &str) -> BTreeMap<SagaId, String> {
    let sql = format!("select id, ({columns})::text from engine.saga where id = any($1)");
    let rows: Vec<(SagaId, String)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>())
        .fetch_all(pool)
        .await
        .unwrap();
    rows.into_iter().collect()
}

/// What the runs did to the world: step, change and key, in order.
async fn world(pool: &PgPool) -> BTreeMap<SagaId, Vec<(String, i32, Option<String>)>> {
    let rows: Vec<(SagaId, String, i32, Option<String>)> =
        sqlx::query_as("select saga_id, step, change, key from world order by number")
            .fetch_all(pool)
            .await
            .unwrap();
    let mut world = BTreeMap::<_, Vec<_>>::new();
    for (id, step, change, key) in rows {
        world.entry(id).or_default().push((step, change, key));
    }
    world
}

async fn dead_jobs(pool: &PgPool) -> BTreeMap<SagaId, DeadJobId> {
    let rows: Vec<(SagaId, DeadJobId)> =
        sqlx::query_as("select saga_id, id from engine.dead_job").fetch_all(pool).await.unwrap();
    rows.into_iter().collect()
}

const ASIDE: &str = "waits_for = 'version' and due_at is null and lease_until is null";
/// What only a claim changes; an operator's decision does not.
const CLAIMED: &str = "claimed_at, lost_attempts";
const UNTOUCHED: &str = "epoch, history_seq, status, step, direction, attempt, lost_attempts, in_doubt";

/// The new build is deployed. It touches no run of the old one, whatever is asked of it about them.
async fn deploy(url: &str, pool: &PgPool, cases: &[Case], wrong: &mut Vec<String>) -> Process {
    let ids: Vec<_> = cases.iter().map(|case| case.id).collect();
    let jobs = dead_jobs(pool).await;
    let before = (rows(pool, &ids, UNTOUCHED).await, rows(pool, &ids, CLAIMED).await, world(pool).await);
    let mut new = Process::start(url, Build::New, &QUEUES);
    for case in cases.iter().filter(|case| case.is_due()) {
        holds(pool, &format!("select {ASIDE} from engine.saga where id = '{}'", case.id)).await;
    }
    for case in cases {
        for (ask, expected) in case.asks_of_new(jobs.get(&case.id)) {
            let answer = new.ask(ask).await;
            if !answer.starts_with(expected) {
                wrong.push(format!("{case}: the new build answered {answer} to {ask:?}"));
            }
        }
        if !case.is_dead() {
            holds(pool, &format!("select {ASIDE} from engine.saga where id = '{}'", case.id)).await;
        }
    }
    // It works meanwhile, on sagas of its own.
    for change in &CHANGES {
        let id: SagaId = new.ask(Ask::Run(change.saga)).await.parse().unwrap();
        let done: Vec<_> = world(pool).await.remove(&id).unwrap();
        assert_eq!(done.iter().map(|(step, ..)| step.as_str()).collect::<Vec<_>>(), steps(change.new));
    }

    let (untouched, claimed, world_before) = before;
    let (now, claimed_now, world_now) =
        (rows(pool, &ids, UNTOUCHED).await, rows(pool, &ids, CLAIMED).await, world(pool).await);
    for case in cases {
        let id = case.id;
        if claimed[&id] != claimed_now[&id] || world_before.get(&id) != world_now.get(&id) {
            wrong.push(format!("{case}: the new build worked on it: {:?}", world_now.get(&id)));
        }
        if case.kind.wish != Wish::Cancel && untouched[&id] != now[&id] {
            wrong.push(format!("{case}: the new build changed {} to {}", untouched[&id], now[&id]));
        }
    }
    assert_eq!(dead_jobs(pool).await, jobs, "no run was parked");
    assert_eq!(new.ask(Ask::VerifyHistories).await, "[]");
    new
}

/// A process of the old build starts again, beside the new one. Each run goes on with its own graph, to its end or back.
async fn roll_back(url: &str, pool: &PgPool, cases: &[Case], new: &mut Process, wrong: &mut Vec<String>) {
    sqlx::query("insert into repaired default values").execute(pool).await.unwrap();
    let jobs = dead_jobs(pool).await;
    let mut old = Process::start(url, Build::Old, &QUEUES);
    for case in cases {
        if let Some((ask, expected)) = case.ask_of_old(jobs.get(&case.id)) {
            let answer = old.ask(ask).await;
            if !answer.starts_with(expected) {
                wrong.push(format!("{case}: the old build answered {answer} to {ask:?}"));
            }
        }
    }
    // A run that dies has not ended rightly, and is told of below. One that was cancelled while it was dead is so until then.
    all_are(pool, cases, |left| match left {
        Left::DeadAtPivot => "ended_at is not null",
        _ => "ended_at is not null or status = 'dead'",
    })
    .await;
    for process in [&mut old, new] {
        assert_eq!(process.ask(Ask::VerifyHistories).await, "[]");
    }
    old.stop().await;
}

async fn ended_rightly(pool: &PgPool, cases: &[Case], wrong: &mut Vec<String>) {
    let ids: Vec<_> = cases.iter().map(|case| case.id).collect();
    let (statuses, mut world) = (rows(pool, &ids, "status").await, world(pool).await);
    for case in cases {
        let effects = world.remove(&case.id).unwrap_or_default();
        // A call may be made again, by its key; and so may its undo.
        let mut done: Vec<(&str, i32)> = Vec::new();
        let mut keys = BTreeMap::new();
        for (step, change, key) in &effects {
            let is_repeated = key.is_some() && done.last() == Some(&(step.as_str(), *change));
            if keys.entry((step, change)).or_insert(key) != &key {
                wrong.push(format!("{case}: `{step}` is called with two keys: {effects:?}"));
            }
            if !is_repeated {
                done.push((step, *change));
            }
        }
        let (status, expected) = case.ending();
        if (statuses[&case.id].as_str(), &done) != (status, &expected) {
            let ended = &statuses[&case.id];
            wrong.push(format!("{case}: {ended} after {done:?}, expected {status} after {expected:?}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_left_in_every_state_by_the_process_of_an_old_build_are_untouched_by_a_new_one_and_end_rightly()
{
    let (database, pool) = database().await;
    create_world(&pool).await;
    let cases = start(&pool, &cases::all()).await;
    let mut wrong = Vec::new();
    leave(&database.url(), &pool, &cases).await;
    let mut new = deploy(&database.url(), &pool, &cases, &mut wrong).await;
    roll_back(&database.url(), &pool, &cases, &mut new, &mut wrong).await;
    new.stop().await;
    ended_rightly(&pool, &cases, &mut wrong).await;
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_type_of_an_output_is_named_by_a_check_and_the_runs_go_on_with_the_old_build() {
    let (database, pool) = database().await;
    create_world(&pool).await;
    let revised = CHANGES.iter().find(|change| change.new == Version::Revised).unwrap();
    let kinds =
        [Left::Postponed, Left::Compensating].map(|left| Kind { change: revised, left, wish: Wish::GoOn });
    let cases = start(&pool, &kinds).await;
    let worker = Process::start(&database.url(), Build::Old, &["stopped"]);
    all_are(&pool, &cases, stands).await;
    worker.stop().await;
    let engine = Build::Old.engine(&pool, "stopped");
    engine.cancel(cases[1].id, "ada", "changed her mind").await.unwrap();
    engine.shutdown().await;

    // Builds that work on nothing, as before a deploy: with the new type and the old revision, with another revision, and the
    // old build itself.
    let unreadable = "the stored output of `flight` can't be read";
    for (build, prospects, why) in [
        (Build::Careless, ["Unreadable", "Unreadable"], Some(unreadable)),
        (Build::New, ["Unknown", "Unknown"], Some("")),
        (Build::Old, ["GoesOn", "GoesOn"], None),
    ] {
        let mut checker = Process::start(&database.url(), build, &[]);
        let found: Vec<Found> = serde_json::from_str(&checker.ask(Ask::Check).await).unwrap();
        checker.stop().await;
        let mut runs: Vec<_> = cases.iter().map(|case| case.id).collect();
        assert_eq!(
            found.iter().map(|found| found.prospect.as_str()).collect::<Vec<_>>(),
            prospects,
            "{found:?}"
        );
        for found in &found {
            assert_eq!((found.definition.as_str(), found.sagas), (revised.saga, 1), "{build:?}: {found:?}");
            let first = found.first.as_ref();
            assert_eq!(first.is_some(), why.is_some(), "{build:?}: {found:?}");
            let Some((id, reason)) = first else { continue };
            runs.retain(|run| run != id);
            assert!(reason.contains(why.unwrap()), "{build:?}: {reason}");
        }
        assert_eq!(runs.is_empty(), why.is_some(), "{build:?} names each");
    }

    sqlx::query("insert into repaired default values").execute(&pool).await.unwrap();
    engine::testing::make_all_due(&pool).await.unwrap();
    let old = Process::start(&database.url(), Build::Old, &QUEUES);
    all_are(&pool, &cases, |_| "ended_at is not null").await;
    old.stop().await;
    let mut wrong = Vec::new();
    ended_rightly(&pool, &cases, &mut wrong).await;
    assert_eq!(wrong, Vec::<String>::new());
}
