//! A saga for each of many items that are read from a table in pages.

mod bad_readers;
mod later;
mod reader;
mod rounds;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use engine::{
    Batch, Definition, Direction, EachEnded, Engine, EngineBuilder, Outcome, Outcomes, Saga, SagaId,
    SagaName, Status, StepError, TransactionStep, Tx, UndoBatch, UndoOutcome, UndoOutcomes, UndoTransaction,
    testing::{Proof, all_items, expire_leases},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use self::reader::{Fault, Lines, World};
use super::{QUICK, TestEngine, fixtures, left_behind, story, verified};
use crate::support::{Database, WAIT_TIMEOUT};

const IMPORT: SagaName<Upload, EachEnded> = SagaName::new("import-upload");
const IMPORT_LINE: SagaName<Line> = SagaName::new("import-line");

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
struct Upload {
    id: i64,
    /// A fault of the pages that begin behind the third line.
    fault: Option<Fault>,
    /// Whether the lines can't be counted.
    uncounted: bool,
    /// Whether the step behind the lines says no.
    fails_after: bool,
}

impl Upload {
    fn of(id: i64) -> Self {
        Self { id, ..Self::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, sqlx_macros::FromRow)]
struct Line {
    upload: i64,
    number: i64,
    text: String,
}

/// Writes a line. Nothing but the engine keeps it from being written twice.
struct Write;

impl TransactionStep for Write {
    const NAME: &'static str = "write";
    const RETRY: engine::RetryPolicy = QUICK;
    type Input = Line;
    type Output = i64;
    type Undo = Self;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Line>) -> Result<Outcomes<i64>, StepError> {
        let outcomes = batch.decide(|item| match item.input.text.as_str() {
            "bad" => Outcome::fail("bad", "it is a bad line"),
            _ => Outcome::Done(item.input.number),
        });
        let done = batch.iter().zip(&outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Done(_)));
        let done = done.map(|(item, _)| item.saga_id.0).collect();
        fixtures::record_effect(tx, done, "write", 1).await?;
        Ok(outcomes)
    }
}

impl UndoTransaction<Write> for Write {
    const RETRY: engine::RetryPolicy = QUICK;

    async fn undo(
        _: &Write,
        tx: &mut Tx<'_>,
        batch: &UndoBatch<Line, i64>,
    ) -> Result<UndoOutcomes, StepError> {
        fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), "write", -1).await?;
        Ok(batch.decide(|_| UndoOutcome::Done))
    }
}

/// Defines a step of an upload that writes an effect, and whose undo takes it back.
macro_rules! note {
    ($step:ident, $name:literal, $undo:ty, $says_no:expr) => {
        struct $step;

        impl TransactionStep for $step {
            const NAME: &'static str = $name;
            const RETRY: engine::RetryPolicy = QUICK;
            type Input = Upload;
            type Output = ();
            type Undo = $undo;

            async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Upload>) -> Result<Outcomes<()>, StepError> {
                let says_no: fn(&Upload) -> bool = $says_no;
                let done = batch.iter().filter(|item| !says_no(&item.input));
                fixtures::record_effect(tx, done.map(|item| item.saga_id.0).collect(), $name, 1).await?;
                Ok(batch.decide(|item| match says_no(&item.input) {
                    true => Outcome::fail("no", "it is not wanted"),
                    false => Outcome::Done(()),
                }))
            }
        }

        impl UndoTransaction<$step> for $step {
            const RETRY: engine::RetryPolicy = QUICK;

            async fn undo(
                _: &$step,
                tx: &mut Tx<'_>,
                batch: &UndoBatch<Upload, ()>,
            ) -> Result<UndoOutcomes, StepError> {
                let ids = batch.iter().map(|item| item.saga_id.0).collect();
                fixtures::record_effect(tx, ids, $name, -1).await?;
                Ok(batch.decide(|_| UndoOutcome::Done))
            }
        }
    };
}

note!(Accept, "accept", Self, |_| false);
note!(Report, "report", Self, |upload| upload.fails_after);

/// A step on the database, the lines, and another step; all three are fused.
fn import(world: &Arc<World>, at_most: u32) -> Definition {
    let lines = IMPORT_LINE.each_page(Lines(world.clone())).at_most(at_most);
    let import = Saga::named(IMPORT).then(Accept).for_each("lines", lines).then(Report);
    let mut import = import.returns(|ended: &EachEnded| *ended).build().unwrap();
    import.set_policy("lines", Direction::Action, QUICK).unwrap();
    import
}

fn line() -> Definition {
    Saga::named(IMPORT_LINE).then(Write).build().unwrap()
}

fn builder(pool: &PgPool, world: &Arc<World>, at_most: u32) -> EngineBuilder {
    Engine::builder(pool.clone()).register(import(world, at_most)).register(line())
}

/// A database whose uploads have no lines.
async fn database() -> (Database, PgPool) {
    let (database, pool) = fixtures::database().await;
    let sql = "create table line (upload bigint, number bigint, text text, primary key (upload, number))";
    sqlx::query(sql).execute(&pool).await.unwrap();
    (database, pool)
}

async fn insert(pool: &PgPool, upload: i64, numbers: impl IntoIterator<Item = i64>) {
    let numbers: Vec<i64> = numbers.into_iter().collect();
    let sql = "insert into line select $1, number, 'line ' || number from unnest($2::bigint[]) as n (number)";
    sqlx::query(sql).bind(upload).bind(numbers).execute(pool).await.unwrap();
}

/// The numbers of the lines that have a child, in the order of the children.
async fn opened(pool: &PgPool, parent: SagaId) -> Vec<i64> {
    let sql = "select (input ->> 'number')::bigint from engine.saga where parent_id = $1 \
         order by parent_position, parent_round";
    sqlx::query_scalar(sql).bind(parent.0).fetch_all(pool).await.unwrap()
}

fn all(count: u32) -> EachEnded {
    EachEnded { total: count, completed: count, failed: 0 }
}

async fn result(test: &TestEngine, id: SagaId) -> Option<EachEnded> {
    let ending = test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().expect("it ends");
    IMPORT.result(&ending).unwrap()
}

#[tokio::test]
async fn each_row_of_a_table_gets_a_child_in_its_order_and_no_more_than_so_many_are_open() {
    let (_database, pool) = database().await;
    insert(&pool, 7, 1..=1000).await;
    insert(&pool, 8, 1..=5).await;
    let world = Arc::new(World::default());
    let test = TestEngine::build(builder(&pool, &world, 20));
    let id = test.engine.start(IMPORT.with(&Upload::of(7))).await.unwrap().saga_id;
    let mut most = 0_i64;
    let ending = loop {
        let sql = "select count(*) from engine.saga where parent_id is not null and ended_at is null";
        most = most.max(sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap());
        if let Some(ending) = test.engine.wait(id, Duration::from_millis(1)).await.unwrap() {
            break ending;
        }
    };
    assert!(most <= 20, "{most} were open");
    assert_eq!(IMPORT.result(&ending).unwrap(), Some(all(1000)));
    assert_eq!(opened(&pool, id).await, (1..=1000).collect::<Vec<_>>());
    assert_eq!(fixtures::effects(&pool, "write").await, 1000);
    assert_eq!(story(&test.engine, id).await, ["accept", "lines opened", "lines", "report"]);
    let asked = std::mem::take(&mut *world.asked.lock().unwrap());
    assert_eq!(asked.first(), Some(&(None, 20)));
    assert_eq!(asked.last().and_then(|(after, _)| *after), Some(1000), "an empty page is the end");
    assert!(asked.iter().all(|(_, limit)| (1..=20).contains(limit)), "{asked:?}");
    verified(&test.engine).await;
    test.close().await;
}

/// How items are read is code, as how they are computed is: a saga goes on with either.
#[tokio::test]
async fn a_list_that_was_computed_goes_on_in_pages_after_a_deploy() {
    let (_database, pool) = database().await;
    insert(&pool, 7, 1..=40).await;
    let world = Arc::new(World::default());
    let lines = |upload: &Upload| {
        let line = |number: i64| Line { upload: upload.id, number, text: format!("line {number}") };
        (1..=40).map(line).collect::<Vec<_>>()
    };
    let computed = Saga::named(IMPORT).then(Accept).for_each("lines", IMPORT_LINE.each(lines).at_most(8));
    let computed = computed.then(Report).returns(|ended: &EachEnded| *ended).build().unwrap();
    assert_eq!(computed.graph().hash, import(&world, 8).graph().hash);
    let first = TestEngine::build(Engine::builder(pool.clone()).register(computed).register(line()));
    let id = first.engine.start(IMPORT.with(&Upload::of(7))).await.unwrap().saga_id;
    fixtures::holds(&pool, "select count(*) >= 8 from engine.saga where parent_id is not null").await;
    first.close().await;
    let second = TestEngine::build(builder(&pool, &world, 8));
    assert_eq!(result(&second, id).await, Some(all(40)));
    assert_eq!(opened(&pool, id).await, (1..=40).collect::<Vec<_>>());
    verified(&second.engine).await;
    second.close().await;
}

/// The process vanishes in the middle, again and again.
#[tokio::test]
async fn every_row_gets_one_child_whatever_vanishes_between_two_pages() {
    let (_database, pool) = database().await;
    insert(&pool, 7, 1..=400).await;
    let world = Arc::new(World::default());
    let first = TestEngine::build(builder(&pool, &world, 10));
    let id = first.engine.start(IMPORT.with(&Upload::of(7))).await.unwrap().saga_id;
    let mut running = Some(first);
    for done in [60, 150, 300] {
        let test = running.take().unwrap();
        let completed = format!("select count(*) >= {done} from engine.saga where status = 'completed'");
        fixtures::holds(&pool, &completed).await;
        let dead = test.engine.worker();
        test.engine.shutdown().await;
        expire_leases(&pool, dead).await.unwrap();
        running = Some(TestEngine::build(builder(&pool, &world, 10)));
    }
    let test = running.unwrap();
    assert_eq!(result(&test, id).await, Some(all(400)));
    assert_eq!(opened(&pool, id).await, (1..=400).collect::<Vec<_>>());
    assert_eq!(fixtures::effects(&pool, "write").await, 400);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_table_without_rows_is_no_wait() {
    let (_database, pool) = database().await;
    let test = TestEngine::build(builder(&pool, &Arc::default(), 20));
    let id = test.engine.start(IMPORT.with(&Upload::of(7))).await.unwrap().saga_id;
    assert_eq!(result(&test, id).await, Some(all(0)));
    assert_eq!(story(&test.engine, id).await, ["accept", "lines", "report"]);
    test.close().await;
}

#[tokio::test]
async fn all_rows_are_undone_if_a_later_step_says_no() {
    let (_database, pool) = database().await;
    insert(&pool, 7, 1..=120).await;
    let test = TestEngine::build(builder(&pool, &Arc::default(), 20));
    let upload = Upload { fails_after: true, ..Upload::of(7) };
    let (started, ending) = test.engine.start_and_wait(IMPORT.with(&upload), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Compensated);
    assert_eq!(opened(&pool, started.saga_id).await.len(), 120);
    assert_eq!(left_behind(&pool).await, 0);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_of_items_that_are_read_in_pages_finds_no_violation() {
    let (_database, pool) = database().await;
    insert(&pool, 7, 1..=5).await;
    let definitions = || vec![import(&Arc::default(), 2), line()];
    let report = Proof::of(IMPORT.name(), pool, definitions, || IMPORT.with(&Upload::of(7)))
        .unchanged("select saga_id, step, sum(change) from effect group by 1, 2 having sum(change) <> 0")
        .run()
        .await
        .unwrap();
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.cases.iter().any(|case| case.step == "lines"), "{report}");
}
