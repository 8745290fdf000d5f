//! A parent of many children, whose process is killed twice in the middle.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use engine::{
    Batch, CallError, CallStep, EachEnded, Engine, EngineBuilder, Item, NothingToUndo, Outcome, Outcomes,
    Saga, SagaId, SagaName, StepError, TransactionStep, Tx,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{fixtures, verified};
use crate::support::WAIT_TIMEOUT;

const ITEMS: i64 = 1200;
/// How many are open at a time.
const AT_MOST: u32 = 100;
const IMPORT: SagaName<i64, EachEnded> = SagaName::new("import");
const IMPORT_ROW: SagaName<Row> = SagaName::new("import-row");
/// Names the database for the process that works.
const WORK_ON: &str = "SAGALINE_TEST_WORK_ON";
const HERE: &str = "it::children::killed::works_for_another_test";

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Row {
    number: i64,
}

/// Writes the row. Nothing but the engine keeps it from being written twice.
struct Store;

#[derive(Serialize, Deserialize)]
struct Stored;

impl TransactionStep for Store {
    const NAME: &'static str = "store";
    type Input = Row;
    type Output = Stored;
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Row>) -> Result<Outcomes<Stored>, StepError> {
        sqlx::query("insert into stored select * from unnest($1::bigint[])")
            .bind(batch.iter().map(|item| item.input.number).collect::<Vec<_>>())
            .execute(&mut **tx)
            .await?;
        Ok(batch.decide(|_| Outcome::Done(Stored)))
    }
}

/// Tells a service, which remembers every call with its key.
struct Announce(PgPool);

impl CallStep for Announce {
    const NAME: &'static str = "announce";
    type Input = Row;
    type Output = ();
    type Undo = NothingToUndo;

    async fn call(&self, item: &Item<Row>) -> Result<Outcome<()>, CallError> {
        sqlx::query("insert into announced values ($1, $2)")
            .bind(item.input.number)
            .bind(&item.idempotency_key)
            .execute(&self.0)
            .await?;
        Ok(Outcome::Done(()))
    }
}

fn builder(pool: &PgPool) -> EngineBuilder {
    let rows = |count: &i64| (0..*count).map(|number| Row { number }).collect::<Vec<_>>();
    let each = IMPORT_ROW.each(rows).at_most(AT_MOST);
    let import = Saga::named(IMPORT).for_each("rows", each).returns_output().build().unwrap();
    let row = Saga::named(IMPORT_ROW).then(Store).then_call(Announce(pool.clone())).build().unwrap();
    Engine::builder(pool.clone()).lease(Duration::from_secs(1)).register(import).register(row)
}

/// A process that works on the sagas of a database until it is killed.
struct Worker(Child);

impl Worker {
    fn start(url: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([HERE, "--exact", "--nocapture"]).env(WORK_ON, url).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Kills it as `kill -9` does.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The child process of the test below; does nothing in an ordinary run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_for_another_test() {
    let Some(url) = std::env::var_os(WORK_ON) else { return };
    let pool = PgPool::connect(url.to_str().unwrap()).await.unwrap();
    let engine = builder(&pool).build().unwrap();
    let mut feed = engine.feed("default", 64);
    engine.run(&mut feed, CancellationToken::new()).await;
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Waits until that many children have completed. What is shown meanwhile only grows, and no more are open than may be.
async fn progress_until(engine: &Engine, parent: SagaId, wanted: i64, shown: &mut i64) {
    let reaches = async {
        while *shown < wanted {
            // None, until the first are opened.
            let Some(rows) = engine.children_of(parent).await.unwrap().pop() else { continue };
            assert!(rows.completed >= *shown && rows.open <= i64::from(AT_MOST), "{rows:?} after {shown}");
            *shown = rows.completed;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, reaches).await.expect("children complete");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_twice_among_many_children_leaves_each_done_once() {
    let (database, pool) = fixtures::database().await;
    for sql in [
        "create table stored (number bigint not null)",
        "create table announced (number bigint not null, key text not null)",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    // It starts, watches and works on nothing.
    let engine = builder(&pool).build().unwrap();
    let id = engine.start(IMPORT.with(&ITEMS)).await.unwrap().saga_id;
    let mut shown = 0;
    for wanted in [ITEMS / 4, ITEMS / 2] {
        let worker = Worker::start(&database.url());
        progress_until(&engine, id, wanted, &mut shown).await;
        worker.kill();
    }
    let last = Worker::start(&database.url());
    let ending = engine.wait(id, WAIT_TIMEOUT).await.unwrap().expect("it ends");
    last.kill();

    let all = u32::try_from(ITEMS).unwrap();
    assert_eq!(IMPORT.result(&ending).unwrap(), Some(EachEnded { total: all, completed: all, failed: 0 }));
    assert_eq!(count(&pool, "select count(*) from stored").await, ITEMS, "each transaction once");
    assert_eq!(count(&pool, "select count(distinct number) from stored").await, ITEMS);
    assert_eq!(
        count(&pool, "select count(distinct (number, key)) from announced").await,
        ITEMS,
        "each by its key"
    );
    assert_eq!(count(&pool, "select count(distinct number) from announced").await, ITEMS);
    let rows = engine.children_of(id).await.unwrap().remove(0);
    assert_eq!((rows.open, rows.completed, rows.compensated, rows.given_up), (0, ITEMS, 0, 0));
    let attempts = "select count(*) from engine.history where outcome = 'lost'";
    assert!(count(&pool, attempts).await > 0, "nothing was under way when the processes were killed");
    verified(&engine).await;
    engine.shutdown().await;
}
