//! History is stored as runs, one row for the like entries of a commit, and read as entries.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use engine::{
    CallError, CallStep, Definition, Engine, HistoryEntry, HistoryOutcome, Item, ItemStep, NothingToUndo,
    Outcome, PerItem, Saga, SagaId, SagaName, Status, StepError, Tx,
    testing::{Fault, FaultPoint, Faults, expire_leases, with_faults},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    claims::next,
    fixtures::{self, ExternalWorld, FULL, PLAIN, Pack, Packed, StepFault, TestEngine, TestInput},
};
use crate::support::WAIT_TIMEOUT;

/// The stored rows of a saga's history: the number of the first entry, and the steps of all.
async fn runs(pool: &PgPool, saga_id: SagaId) -> Vec<(i32, Vec<String>)> {
    sqlx::query_as(
        "select seq, array_prepend(case direction when 'undo' then '-' else '' end || step, next_steps) \
         from engine.history_run where saga_id = $1 order by seq",
    )
    .bind(saga_id.0)
    .fetch_all(pool)
    .await
    .unwrap()
}

fn run(first: i32, steps: &[&str]) -> (i32, Vec<String>) {
    (first, steps.iter().map(ToString::to_string).collect())
}

async fn history(engine: &Engine, saga_id: SagaId) -> Vec<HistoryEntry> {
    engine.history(saga_id).await.unwrap().unwrap()
}

fn numbers(history: &[HistoryEntry]) -> Vec<i32> {
    history.iter().map(|entry| entry.seq).collect()
}

#[tokio::test]
async fn the_steps_of_one_commit_are_one_row_and_an_entry_each() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(fixtures::plain_saga()));
    let started =
        test.engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap().0;
    assert_eq!(runs(&pool, started.saga_id).await, [run(1, &["pack", "seal", "file"])]);

    let entries = history(&test.engine, started.saga_id).await;
    let shown: Vec<_> = entries.iter().map(|entry| (entry.seq, entry.step.as_str(), &entry.output)).collect();
    let outputs = [json!({"boxes": 2}), json!("sealed"), Value::Null].map(Some);
    assert_eq!(shown, [(1, "pack", &outputs[0]), (2, "seal", &outputs[1]), (3, "file", &outputs[2])]);
    assert!(entries.iter().all(|entry| entry.outcome == HistoryOutcome::Done && entry.attempt == 1));
    assert!(entries.is_sorted_by_key(|entry| entry.started_at), "{entries:?}");
    assert!(entries[0].worker == Some(test.engine.worker()) && entries[2].worker == entries[0].worker);

    let first = test.engine.history_after(started.saga_id, 0, 2).await.unwrap().unwrap();
    assert!(first.has_more);
    assert_eq!(numbers(&first.items), [1, 2]);
    let rest = test.engine.history_after(started.saga_id, 2, 2).await.unwrap().unwrap();
    assert!(!rest.has_more);
    assert_eq!(numbers(&rest.items), [3]);
    assert!(test.engine.history_after(started.saga_id, i32::MAX, 2).await.unwrap().unwrap().items.is_empty());
    assert_eq!(numbers(&test.engine.latest_attempts(started.saga_id, "seal", 5).await.unwrap()), [2]);
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

/// Lets the first attempt at `seal` fail.
#[derive(Default)]
struct RetrySealOnce(AtomicBool);

impl Faults for RetrySealOnce {
    fn at(&self, _: SagaId, point: &FaultPoint, _: u32) -> Option<Fault> {
        let first = point.step == "seal" && !self.0.swap(true, Ordering::Relaxed);
        first.then(|| Fault::Retry("the wax is cold".into()))
    }
}

#[tokio::test]
async fn a_retry_is_a_row_of_its_own_and_splits_the_run() {
    let (_database, pool) = fixtures::database().await;
    let builder = Engine::builder(pool.clone()).register(fixtures::plain_saga());
    let test = TestEngine::build(with_faults(builder, Arc::new(RetrySealOnce::default())));
    let started =
        test.engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap().0;
    let rows = [run(1, &["pack"]), run(2, &["seal"]), run(3, &["seal"]), run(4, &["file"])];
    assert_eq!(runs(&pool, started.saga_id).await, rows);
    let entries = history(&test.engine, started.saga_id).await;
    assert_eq!(numbers(&entries), [1, 2, 3, 4]);
    assert_eq!(entries[1].error, ["the wax is cold"]);
    assert_eq!(entries[2].attempt, 2);
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn undos_are_runs_of_their_own() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(fixtures::full_saga(&world)));
    let saga = FULL.with(&TestInput::with("seal", StepFault::Fails));
    let (started, ending) = test.engine.start_and_wait(saga, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Compensated);
    let rows = [
        run(1, &["pack"]),
        run(2, &["send", "charge"]),
        run(4, &["seal"]),
        run(5, &["-charge"]),
        run(6, &["-send", "pack"]),
    ];
    assert_eq!(runs(&pool, started.saga_id).await, rows);
    let entries = history(&test.engine, started.saga_id).await;
    assert_eq!(numbers(&entries), [1, 2, 3, 4, 5, 6, 7]);
    assert!(entries[1].started_at <= entries[2].started_at);
    assert_eq!(entries[6].output, None);
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

const WEIGHED: SagaName<TestInput> = SagaName::new("weighed-saga");

struct Weigh;

impl ItemStep for Weigh {
    const NAME: &'static str = "weigh";
    type Input = TestInput;
    type Output = u32;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, _: &Item<TestInput>) -> Result<Outcome<u32>, StepError> {
        Ok(Outcome::Done(7))
    }
}

struct Announce;

impl CallStep for Announce {
    const NAME: &'static str = "announce";
    type Input = (Packed, u32);
    type Output = u32;
    type Undo = NothingToUndo;

    async fn call(&self, item: &Item<Self::Input>) -> Result<Outcome<u32>, CallError> {
        Ok(Outcome::Done(item.input.0.boxes * item.input.1))
    }
}

fn weighed_saga() -> Definition {
    Saga::named(WEIGHED).then(Pack).then(PerItem(Weigh)).then_call(Announce).build().unwrap()
}

#[tokio::test]
async fn another_process_reads_every_output_of_a_run() {
    let (_database, pool) = fixtures::database().await;
    let first = Engine::builder(pool.clone()).register(weighed_saga()).build().unwrap();
    let mut feed = first.feed("default", 1);
    let started = first.start(WEIGHED.with(&TestInput::default())).await.unwrap();
    let job = next(&mut feed).await;
    let performed = first.perform(&job).await;
    first.commit(job, performed).await;
    // The process dies before it makes the call.
    let call = next(&mut feed).await;
    assert_eq!(runs(&pool, started.saga_id).await, [run(1, &["pack", "weigh"])]);
    expire_leases(&pool, first.worker()).await.unwrap();

    let test = TestEngine::build(Engine::builder(pool.clone()).register(weighed_saga()));
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    let entries = history(&test.engine, started.saga_id).await;
    assert_eq!(numbers(&entries), [1, 2, 3, 4]);
    assert_eq!(entries[2].outcome, HistoryOutcome::Lost);
    assert_eq!(entries[3].output, Some(json!(14)));
    drop(call);
    feed.close();
    first.shutdown().await;
    test.close().await;
}

#[tokio::test]
async fn entries_of_given_sagas_are_found_by_their_key() {
    let (_database, pool) = fixtures::database().await;
    let mut conn = pool.acquire().await.unwrap();
    sqlx::query("set enable_seqscan = off").execute(&mut *conn).await.unwrap();
    let id = "'00000000-0000-0000-0000-000000000001'::uuid";
    for condition in [format!("= {id}"), format!("= any(array[{id}])")] {
        let explain = format!("explain select * from engine.history where saga_id {condition}");
        let plan: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(explain)).fetch_all(&mut *conn).await.unwrap();
        let plan = plan.join("\n");
        assert!(plan.contains("Index Cond: (saga_id = "), "{plan}");
    }
}

/// The version of the migration that makes runs of entries.
const RUNS: i64 = 19;

#[tokio::test]
async fn an_upgrade_keeps_every_entry_and_old_processes_go_on_writing() {
    let (_database, pool) = fixtures::owner_database().await;
    let apply = async |is_wanted: &dyn Fn(i64) -> bool| fixtures::apply_migrations(&pool, is_wanted).await;
    sqlx::raw_sql("drop schema engine cascade; create schema engine").execute(&pool).await.unwrap();
    apply(&|version| version < RUNS).await;
    let insert = "insert into engine.history (saga_id, seq, step, direction, outcome, attempt, started_at, duration_ms, output, \
             error, details, worker, epoch) \
         values ($1, $2, $3, 'action', $4, 1, now(), 5, $5, $6, $7, $1, 3)";
    let columns = "saga_id, seq, step, direction, outcome, attempt, started_at, duration_ms, output, error, details, worker, \
         epoch, round, arm";
    let select =
        format!("select to_jsonb(h) from (select {columns} from engine.history) h order by saga_id, seq");
    let entries = async || -> Vec<Value> {
        sqlx::query_scalar(sqlx::AssertSqlSafe(select.as_str())).fetch_all(&pool).await.unwrap()
    };
    let saga_id = uuid::Uuid::from_u128(7);
    let write = async |seq: i32, step: &str, outcome: &str, output: Option<Value>, error: Option<Value>| {
        sqlx::query(insert)
            .bind(saga_id)
            .bind(seq)
            .bind(step)
            .bind(outcome)
            .bind(output)
            .bind(&error)
            .bind(error.map(|_| json!({"code": 450})))
            .execute(&pool)
            .await
            .unwrap();
    };
    write(1, "pack", "done", Some(json!({"boxes": 2})), None).await;
    write(2, "seal", "retry", None, Some(json!(["cold"]))).await;
    write(3, "seal", "done", Some(Value::Null), None).await;
    let before = entries().await;
    assert_eq!(before.len(), 3);

    apply(&|version| version >= RUNS).await;
    assert_eq!(entries().await, before);
    write(4, "file", "done", Some(json!(7)), None).await;
    let after = entries().await;
    assert_eq!(after[..3], before[..]);
    assert_eq!(
        (&after[3]["seq"], &after[3]["output"], &after[3]["round"]),
        (&json!(4), &json!(7), &json!(0))
    );
}
