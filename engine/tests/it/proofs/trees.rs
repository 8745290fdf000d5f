//! Trees of sagas under random faults: processes that die, steps that fail, callers that cancel and operators that
//! retry, in an order that a seed decides. However it went, at the end each tree agrees.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use engine::{
    DeadJobFilter, Definition, Direction, Engine, NothingToUndo, Outcome, Page, Saga, SagaFilter, SagaId,
    SagaName, SagaView, Status,
    testing::{
        DisabledGuard, Fault, FaultPoint, Faults, expire_leases, find_forgotten, history_violations,
        make_all_due, with_faults,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::it::fixtures::{self, QUICK, TestEngine};

/// Trees of one run, which share their batches.
const TREES: usize = 4;
/// How many faults a run has at most.
const FAULTS: u32 = 25;
/// How long a run may take.
const LIMIT: Duration = Duration::from_mins(2);

const LEAF: SagaName<Task> = SagaName::new("leaf");
const BRANCH: SagaName<Task> = SagaName::new("branch");
const ROOT: SagaName<Task> = SagaName::new("root");

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Task {
    leaves: u32,
}

impl Task {
    fn rows(&self) -> Vec<Self> {
        vec![Self { leaves: 0 }; self.leaves as usize]
    }
}

/// A step that writes a row for each saga, and whose undo takes it back.
macro_rules! mark {
    ($step:ident, $name:literal, $undo:ty) => {
        struct $step;

        impl engine::TransactionStep for $step {
            const NAME: &'static str = $name;
            const RETRY: engine::RetryPolicy = QUICK;
            type Input = Task;
            type Output = ();
            type Undo = $undo;

            async fn run(
                &self,
                tx: &mut engine::Tx<'_>,
                batch: &engine::Batch<Task>,
            ) -> Result<engine::Outcomes<()>, engine::StepError> {
                fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), $name, 1)
                    .await?;
                Ok(batch.decide(|_| Outcome::Done(())))
            }
        }

        impl engine::UndoTransaction<$step> for $step {
            const RETRY: engine::RetryPolicy = QUICK;

            async fn undo(
                _: &$step,
                tx: &mut engine::Tx<'_>,
                batch: &engine::UndoBatch<Task, ()>,
            ) -> Result<engine::UndoOutcomes, engine::StepError> {
                fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), $name, -1)
                    .await?;
                Ok(batch.decide(|_| engine::UndoOutcome::Done))
            }
        }
    };
}

mark!(First, "first", Self);
mark!(Last, "last", Self);
mark!(Turn, "turn", NothingToUndo);

/// A root has branches and a leaf before its pivot, and leaves behind it, which a retry opens anew; a branch has
/// leaves.
fn definitions() -> [Definition; 3] {
    let leaf = Saga::named(LEAF).then(First).then(Last).build().unwrap();
    let branch =
        Saga::named(BRANCH).then(First).for_each("leaves", LEAF.each(Task::rows).at_most(2)).then(Last);
    let before = (BRANCH.child(Task::clone), BRANCH.child(Task::clone), LEAF.child(Task::clone));
    let root = Saga::named(ROOT).then(First).parallel("before", before).pivot(Turn);
    let root = root.for_each("behind", LEAF.each(Task::rows));
    [leaf, branch.build().unwrap(), root.build().unwrap()]
}

/// A stream of numbers that depends on its seed alone (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// Faults at random points.
struct Chaos {
    dice: Mutex<(Dice, u32)>,
    disabled_guard: Option<DisabledGuard>,
    has_crashed: AtomicBool,
}

impl Chaos {
    fn roll(&self, sides: u64) -> u64 {
        self.dice.lock().unwrap().0.roll(sides)
    }
}

impl Faults for Chaos {
    fn at(&self, _: SagaId, point: &FaultPoint, _: u32) -> Option<Fault> {
        let mut dice = self.dice.lock().unwrap();
        if dice.1 == 0 {
            return None;
        }
        let fault = match dice.0.roll(100) {
            0..6 => Fault::CrashBeforeCommit,
            6..12 => Fault::CrashAfterCommit,
            12..15 if point.direction == Direction::Action => {
                Fault::Fail(engine::Failure::new("chance", "the dice say no"))
            }
            15..25 => Fault::Retry("the dice say later".into()),
            _ => return None,
        };
        dice.1 -= 1;
        Some(fault)
    }

    fn crashed(&self) {
        self.has_crashed.store(true, Ordering::Release);
    }

    fn disabled_guard(&self) -> Option<DisabledGuard> {
        self.disabled_guard
    }
}

/// Runs trees until all of them are at rest, and returns what does not hold, and the statuses of the roots.
async fn run(seed: u64, guard: Option<DisabledGuard>) -> (Vec<String>, Vec<Status>) {
    let (_database, pool) = fixtures::database().await;
    let chaos = Arc::new(Chaos {
        dice: Mutex::new((Dice(seed), FAULTS)),
        disabled_guard: guard,
        has_crashed: AtomicBool::new(false),
    });
    let mut starts: Vec<_> =
        (0..TREES).map(|_| ROOT.with(&Task { leaves: u32::try_from(chaos.roll(4)).unwrap() + 1 })).collect();
    let roots: Vec<SagaId> = starts.iter().map(engine::NewSaga::saga_id).collect();
    let began = Instant::now();
    let mut is_over = false;
    while !is_over {
        let builder =
            definitions().into_iter().fold(Engine::builder(pool.clone()), engine::EngineBuilder::register);
        let test = TestEngine::build(with_faults(builder, chaos.clone()));
        if !starts.is_empty() {
            let mut transaction = pool.begin().await.unwrap();
            test.engine.start_in(&mut transaction, std::mem::take(&mut starts)).await.unwrap();
            transaction.commit().await.unwrap();
        }
        is_over = act_until_crash(&test, &pool, &chaos, &roots).await;
        let worker = test.engine.worker();
        test.close().await;
        expire_leases(&pool, worker).await.unwrap();
        assert!(began.elapsed() < LIMIT, "the trees of seed {seed} are not at rest: {:?}", open(&pool).await);
    }
    verdict(&pool, &roots).await
}

/// Acts on the trees from outside until they are at rest (true) or the process has died (false).
async fn act_until_crash(test: &TestEngine, pool: &PgPool, chaos: &Chaos, roots: &[SagaId]) -> bool {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        if chaos.has_crashed.swap(false, Ordering::AcqRel) {
            return false;
        }
        let open = open(pool).await;
        if open.is_empty() {
            return true;
        }
        let engine = &test.engine;
        if chaos.roll(40) == 0 {
            let chosen = usize::try_from(chaos.roll(open.len() as u64)).unwrap();
            // One that is past its pivot refuses.
            let _ = engine.cancel(open[chosen], "a test", "the dice say so").await;
        }
        let page = Page { after: None, limit: 100 };
        for job in engine.dead_jobs(&DeadJobFilter::default(), page).await.unwrap().items {
            // A cancel may have ended it meanwhile.
            let _ = engine.retry_dead_job(job.dead_job_id, "a test", "try again").await;
        }
        make_all_due(pool).await.unwrap();
        find_forgotten(engine).await.unwrap();
        engine.wait(roots[0], Duration::from_millis(5)).await.unwrap();
    }
    false
}

/// The sagas that have not ended.
async fn open(pool: &PgPool) -> Vec<SagaId> {
    let ids: Vec<uuid::Uuid> =
        sqlx::query_scalar("select id from engine.saga where ended_at is null order by id")
            .fetch_all(pool)
            .await
            .unwrap();
    ids.into_iter().map(SagaId).collect()
}

/// What does not hold, and the statuses of the roots.
async fn verdict(pool: &PgPool, roots: &[SagaId]) -> (Vec<String>, Vec<Status>) {
    let engine =
        definitions().into_iter().fold(Engine::builder(pool.clone()), engine::EngineBuilder::register);
    let engine = engine.build().unwrap();
    let mut violations = Vec::new();
    for violation in engine.verify_histories(500).await.unwrap() {
        violations.push(format!("{violation:?}"));
    }
    let mut sagas: Vec<SagaView> = Vec::new();
    for root in roots {
        sagas.push(engine.saga(*root).await.unwrap().unwrap());
    }
    let statuses = sagas.iter().map(|root| root.status).collect();
    while let Some(saga) = sagas.pop() {
        let history = engine.history(saga.saga_id).await.unwrap().unwrap();
        let graph = engine.definition(&saga.definition).unwrap().graph();
        violations.extend(history_violations(graph, &saga, &history));
        let filter = SagaFilter { parent: Some(saga.saga_id), ..SagaFilter::default() };
        let children = engine.sagas(&filter, Page { after: None, limit: 1000 }).await.unwrap().items;
        violations.extend(disagreements(&saga, &children));
        violations.extend(wrong_rows(pool, &saga).await);
        sagas.extend(children);
    }
    engine.shutdown().await;
    (violations, statuses)
}

/// The model: a tree is done as a whole, or undone as a whole. Children of a round that failed are undone, and those of
/// the next take their places.
fn disagreements(parent: &SagaView, children: &[SagaView]) -> Vec<String> {
    let mut violations = Vec::new();
    let of = |child: &SagaView| child.child_of.clone().map(|of| (of.step, of.position));
    let places: BTreeSet<_> = children.iter().map(of).collect();
    for place in places {
        let statuses: Vec<Status> =
            children.iter().filter(|child| of(child) == place).map(|child| child.status).collect();
        let completed = statuses.iter().filter(|status| **status == Status::Completed).count();
        let is_ended = children.iter().all(|child| child.ended_at.is_some());
        let wanted = usize::from(parent.status == Status::Completed);
        let others = statuses.iter().filter(|status| **status == Status::Compensated).count();
        if completed != wanted || completed + others != statuses.len() || !is_ended {
            violations.push(format!("{} `{}`: {place:?} {statuses:?}", parent.status, parent.definition));
        }
    }
    violations
}

/// The rows of a saga: one of each step if it has completed, and all taken back if it has compensated.
async fn wrong_rows(pool: &PgPool, saga: &SagaView) -> Vec<String> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "select step, count(*) filter (where change = 1), count(*) filter (where change = -1) from effect \
         where saga_id = $1 group by step",
    )
    .bind(saga.saga_id.0)
    .fetch_all(pool)
    .await
    .unwrap();
    let undone = i64::from(saga.status == Status::Compensated);
    let is_wrong = |(_, done, taken_back): &(String, i64, i64)| (*done, *taken_back) != (1, undone);
    rows.into_iter()
        .filter(is_wrong)
        .map(|(step, done, undone)| {
            format!("{} `{}`: `{step}` done {done}, undone {undone}", saga.status, saga.definition)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trees_agree_at_the_end_whatever_happened() {
    let mut ends = BTreeSet::new();
    for seed in 0..8 {
        let (violations, statuses) = run(seed, None).await;
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
        ends.extend(statuses.into_iter().map(Status::name));
    }
    assert_eq!(ends, BTreeSet::from(["compensated", "completed"]), "the seeds show both ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trees_whose_undos_are_skipped_do_not_agree() {
    let mut found = Vec::new();
    for seed in 0..3 {
        found.extend(run(seed, Some(DisabledGuard::Undo)).await.0);
    }
    assert!(found.iter().any(|violation| violation.contains("undone 0")), "{found:#?}");
}
