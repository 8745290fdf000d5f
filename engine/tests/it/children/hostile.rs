//! Tests by a stranger, from the docs alone: trees of sagas under cancels, deaths, deploys and vanishing processes.
//!
//! After each, what has to hold whatever happened is read from the tables: see [`facts`].

mod cancels;
mod dead;
mod dice;
mod items;
mod rounds;
mod slow_rounds;
mod trees;
mod vanishing;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use engine::{
    Batch, CallError, CallStep, CancelOutcome, Cause, ChildEnd, DeadJobFilter, Definition, DiscardMode,
    EachEnded, Engine, EngineBuilder, FinalStatus, ForwardOnly, Item, Joined, LeftChildren, Outcome,
    Outcomes, Page, Retention, Retry, Saga, SagaId, SagaName, Status, StatusChange, StatusObserver,
    StepError, TransactionStep, Tx, UndoBatch, UndoCall, UndoItem, UndoOutcome, UndoOutcomes,
    UndoTransaction,
    testing::{end_waits, expire_leases, history_violations},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use self::dice::Dice;
use super::{QUICK, children_of, fixtures, left_behind, story, waits_for_children};
use crate::it::waits::{APPROVAL, Approval, LONG};

/// Longer than a slow machine needs, and short enough for a test that hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a saga of these tests has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Task {
    name: String,
    /// The steps that say no, unless the world is mended.
    no: Vec<String>,
    /// How many items it has.
    count: u32,
    /// The items whose first step says no.
    bad: Vec<u32>,
    /// Whether optional parts are run.
    extra: bool,
    /// How large the output of `alpha` is.
    size: usize,
}

impl Task {
    fn of(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    fn items(count: u32, bad: &[u32]) -> Self {
        Self { count, bad: bad.to_vec(), ..Self::of("many") }
    }

    fn no(mut self, step: &str) -> Self {
        self.no.push(step.into());
        self
    }

    /// The items of a `for_each`.
    fn rows(&self) -> Vec<Self> {
        let row = |nth: u32| Self {
            no: if self.bad.contains(&nth) { vec!["alpha".into()] } else { Vec::new() },
            extra: nth % 2 == 1,
            ..Self::of(&nth.to_string())
        };
        (0..self.count).map(row).collect()
    }
}

/// What steps meet outside.
#[derive(Debug, Default)]
struct World {
    /// Steps that were asked to say no do so no more.
    mended: AtomicBool,
    /// Undos of `alpha` of sagas with this flag fail.
    stuck: AtomicBool,
}

macro_rules! work {
    ($step:ident, $name:literal, $output:ident) => {
        struct $step(Arc<World>);

        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        struct $output(String);

        impl TransactionStep for $step {
            const NAME: &'static str = $name;
            const RETRY: engine::RetryPolicy = QUICK;
            type Input = Task;
            type Output = $output;
            type Undo = Self;

            async fn run(
                &self,
                tx: &mut Tx<'_>,
                batch: &Batch<Task>,
            ) -> Result<Outcomes<$output>, StepError> {
                let outcomes = batch.decide(|item| {
                    let task = &item.input;
                    if task.no.iter().any(|step| step == $name) && !self.0.mended.load(Ordering::Relaxed) {
                        return Outcome::fail("no", format!("{} says no to {}", $name, task.name));
                    }
                    Outcome::Done($output(format!("{} {}", $name, "x".repeat(task.size))))
                });
                let done =
                    batch.iter().zip(&outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Done(_)));
                let done = done.map(|(item, _)| item.saga_id.0).collect();
                fixtures::record_effect(tx, done, $name, 1).await?;
                Ok(outcomes)
            }
        }

        impl UndoTransaction<$step> for $step {
            const RETRY: engine::RetryPolicy = QUICK;

            async fn undo(
                step: &$step,
                tx: &mut Tx<'_>,
                batch: &UndoBatch<Task, $output>,
            ) -> Result<UndoOutcomes, StepError> {
                let stuck = |task: &Task| {
                    $name == "alpha" && task.name == "stuck" && step.0.stuck.load(Ordering::Relaxed)
                };
                let done =
                    batch.iter().filter(|item| !stuck(&item.input)).map(|item| item.saga_id.0).collect();
                fixtures::record_effect(tx, done, $name, -1).await?;
                Ok(batch.decide(|item| {
                    if stuck(&item.input) {
                        UndoOutcome::Retry(Retry::message("it is stuck"))
                    } else {
                        UndoOutcome::Done
                    }
                }))
            }
        }
    };
}

work!(Alpha, "alpha", AlphaDone);
work!(Beta, "beta", BetaDone);
work!(Gamma, "gamma", GammaDone);

/// The pivot.
struct Pivot;

impl TransactionStep for Pivot {
    const NAME: &'static str = "pivot";
    type Input = Task;
    type Output = u8;
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Task>) -> Result<Outcomes<u8>, StepError> {
        Ok(batch.decide(|_| Outcome::Done(1)))
    }
}

const ROW: SagaName<Task> = SagaName::new("row");
const SLOW: SagaName<Task> = SagaName::new("slow-row");
const MANY: SagaName<Task, EachEnded> = SagaName::new("many");

fn row(world: &Arc<World>) -> Definition {
    Saga::named(ROW).then(Alpha(world.clone())).build().unwrap()
}

/// Waits for an approval before it works.
fn slow(world: &Arc<World>) -> Definition {
    Saga::named(SLOW).signal("await", APPROVAL.within(LONG)).then(Alpha(world.clone())).build().unwrap()
}

/// An engine that works on these queues.
struct Process {
    engine: Engine,
    stop: CancellationToken,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

impl Process {
    fn on(queues: &[&str], builder: EngineBuilder) -> Self {
        let (engine, stop) = (builder.build().unwrap(), CancellationToken::new());
        let workers = queues
            .iter()
            .map(|queue| {
                let (engine, stop, mut feed) = (engine.clone(), stop.clone(), engine.feed(queue, 64));
                tokio::spawn(async move { engine.run(&mut feed, stop).await })
            })
            .collect();
        Self { engine, stop, workers }
    }

    fn start(builder: EngineBuilder) -> Self {
        Self::on(&["default"], builder)
    }

    async fn close(self) {
        self.stop.cancel();
        for worker in self.workers {
            worker.await.unwrap();
        }
        self.engine.shutdown().await;
    }

    /// As if it had vanished: what it held is free for others.
    async fn vanish(self, pool: &PgPool) {
        let worker = self.engine.worker();
        self.engine.shutdown().await;
        expire_leases(pool, worker).await.unwrap();
    }
}

fn builder(pool: &PgPool) -> EngineBuilder {
    Engine::builder(pool.clone()).unknown_grace(Duration::ZERO).sweep(Duration::from_millis(20))
}

async fn number(pool: &PgPool, sql: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(pool).await.unwrap()
}

/// Waits until a query is true, but not for long.
async fn soon(pool: &PgPool, sql: &str) {
    if tokio::time::timeout(PATIENCE, fixtures::holds(pool, sql)).await.is_err() {
        let rows: Vec<(String, String, String, String, i64)> = sqlx::query_as(
            "select definition, status, step || ' ' || direction, \
                 coalesce(waits_for, '-') || ' due ' || (due_at is not null) || ' at ' || coalesce(wakes_at_open, -1) \
                 || ' round ' || coalesce(round, 0) || ' ' || coalesce(error, ''), count(*) \
             from engine.saga where ended_at is null group by 1, 2, 3, 4",
        )
        .fetch_all(pool)
        .await
        .unwrap();
        panic!("never true: {sql}\nunended: {rows:#?}");
    }
}

async fn ending(engine: &Engine, id: SagaId) -> FinalStatus {
    if let Some(ending) = engine.wait(id, PATIENCE).await.unwrap() {
        ending
    } else {
        soon(
            engine.pool(),
            &format!("select status = 'dead' or ended_at is not null from engine.saga where id = '{id}'"),
        )
        .await;
        engine.wait(id, PATIENCE).await.unwrap().unwrap()
    }
}

async fn all_end(pool: &PgPool) {
    soon(pool, "select count(*) = 0 from engine.saga where ended_at is null").await;
}

/// What has to hold when all sagas have ended, or rest.
async fn facts(pool: &PgPool, engine: &Engine) {
    soon(
        pool,
        "select not exists (select from engine.inbox i join engine.saga s on s.id = i.saga_id \
         where i.kind = 'cancel' and i.state = 'unread' and s.ended_at is not null)",
    )
    .await;
    soon(
        pool,
        "select not exists (select from engine.saga s where waits_for = 'children' \
         and not exists (select from engine.saga c where c.parent_id = s.id and c.parent_step = s.step \
         and c.ended_at is null))",
    )
    .await;
    assert_eq!(engine.verify_histories(20_000).await.unwrap(), []);
    let twice = number(
        pool,
        "select count(*) from (select 1 from engine.saga where parent_id is not null \
         group by parent_id, parent_step, coalesce(parent_round, 0), parent_position having count(*) > 1) t",
    );
    assert_eq!(twice.await, 0, "a place is taken twice");
    let odd: Vec<(String, String, String, i64)> = sqlx::query_as(
        "select s.definition, s.status, e.step, sum(e.change) from effect e join engine.saga s on s.id = e.saga_id \
         group by s.id, s.definition, s.status, e.step \
         having sum(e.change) not in (0, 1) or s.status = 'compensated' and sum(e.change) <> 0 limit 10",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(odd, [], "effects");
    // A child of a parent that compensated has not completed.
    let left = number(
        pool,
        "select count(*) from engine.saga c join engine.saga p on p.id = c.parent_id \
         where p.status = 'compensated' and (c.status = 'completed' or c.ended_at is null)",
    );
    assert_eq!(left.await, 0, "children of a compensated parent");
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar("select id from engine.saga order by depth, id limit 700")
        .fetch_all(pool)
        .await
        .unwrap();
    for id in ids.into_iter().map(SagaId) {
        let view = engine.saga(id).await.unwrap().unwrap();
        let Some(definition) = engine.definition_of(&view.graph_hash) else { continue };
        let history = engine.history(id).await.unwrap().unwrap();
        let violations = history_violations(definition.graph(), &view, &history);
        // A child that had completed and whose parent compensates has both.
        assert_eq!(violations, Vec::<String>::new(), "{} {:?}: {history:#?}", view.definition, view.status);
    }
}

async fn dead_jobs(engine: &Engine) -> Vec<engine::DeadJob> {
    let page = Page { after: None, limit: 50 };
    engine.dead_jobs(&DeadJobFilter::default(), page).await.unwrap().items
}

/// Retries the dead job of a saga, and waits until it is dead again or has ended.
async fn retry(engine: &Engine, saga: SagaId) {
    let jobs = dead_jobs(engine).await;
    let job = jobs.iter().find(|job| job.saga_id == saga).expect("it is dead");
    engine.retry_dead_job(job.dead_job_id, "ada", "again").await.unwrap();
}

async fn status_of(pool: &PgPool, saga: SagaId, status: &str) {
    soon(pool, &format!("select status = '{status}' from engine.saga where id = '{saga}'")).await;
}

async fn row_has_completed(pool: &PgPool) {
    soon(pool, "select exists (select from engine.saga where definition = 'row' and status = 'completed')")
        .await;
}

async fn slow_row_waits(pool: &PgPool) {
    let waits =
        "select exists (select from engine.saga where definition = 'slow-row' and waits_for = 'signal')";
    soon(pool, waits).await;
}

/// Has a saga's input be one that its code can't read.
async fn spoil_input(pool: &PgPool, saga: SagaId) {
    sqlx::query("update engine.saga set input = '17' where id = $1")
        .bind(saga.0)
        .execute(pool)
        .await
        .unwrap();
}

async fn mend_input(pool: &PgPool, saga: SagaId, task: &Task) {
    sqlx::query("update engine.saga set input = $2 where id = $1")
        .bind(saga.0)
        .bind(sqlx::types::Json(task))
        .execute(pool)
        .await
        .unwrap();
}

async fn child(pool: &PgPool, condition: &str) -> SagaId {
    let sql = format!("select id from engine.saga where parent_id is not null and {condition}");
    SagaId(sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap())
}

fn many(at_most: u32) -> Definition {
    Saga::named(MANY)
        .for_each("each", ROW.each(Task::rows).at_most(at_most))
        .returns_output()
        .build()
        .unwrap()
}

fn many_behind(at_most: u32) -> Definition {
    Saga::named(MANY)
        .pivot(Pivot)
        .for_each("each", ROW.each(Task::rows).at_most(at_most))
        .returns_output()
        .build()
        .unwrap()
}

const PAIR: SagaName<Task> = SagaName::new("pair");

fn pair(world: &Arc<World>) -> Definition {
    Saga::named(PAIR)
        .then(Beta(world.clone()))
        .parallel("both", (ROW.child(Task::clone), SLOW.child(|task: &Task| Task::of(&task.name))))
        .build()
        .unwrap()
}

fn pairs(pool: &PgPool, world: &Arc<World>) -> Process {
    Process::start(builder(pool).register(pair(world)).register(row(world)).register(slow(world)))
}
