//! A no leaves nothing behind: what a one-item step did for a saga before it answered with a failure, a retry or a
//! snooze is taken back, and its neighbours in the batch keep what they did.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    Batch, Definition, Engine, Item, ItemStep, NewSaga, NothingToUndo, Outcome, Outcomes, PerItem, Retry,
    RetryPolicy, Saga, SagaId, SagaName, StartError, Status, StepError, TransactionStep, Tx, UndoItem,
    UndoItemStep, UndoOutcome,
    testing::{Kind, Proof},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::fixtures::{self, TestEngine};
use crate::support::WAIT_TIMEOUT;

const JUDGED: SagaName<Wanted> = SagaName::new("judged");
const CHILD: SagaName<Wanted> = SagaName::new("child");

/// What the step `judge` answers, after it has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Wanted {
    Done,
    /// A failure without any write.
    Refused,
    Fails,
    /// A retry at the first attempt.
    RetriesOnce,
    /// A snooze at the first attempt.
    SnoozesOnce,
    /// It starts a saga, and fails.
    StartsAndFails,
    SqlError,
}

/// Writes a row, and only then answers. It fails for an item if it sees the row of an earlier one that failed.
#[derive(Clone, Default)]
struct Judge {
    snoozed: Arc<Mutex<HashSet<SagaId>>>,
}

impl ItemStep for Judge {
    const NAME: &'static str = "judge";
    const RETRY: RetryPolicy = fixtures::QUICK;
    type Input = Wanted;
    type Output = u32;
    type Undo = Self;

    async fn run(&self, tx: &mut Tx<'_>, item: &Item<Wanted>) -> Result<Outcome<u32>, StepError> {
        let wanted = item.input;
        if wanted == Wanted::Refused {
            return Ok(Outcome::fail("refused", "it does not even look"));
        }
        let leftovers: i64 =
            sqlx::query_scalar("select count(*) from effect where step = 'judge' and change = 0")
                .fetch_one(&mut **tx)
                .await?;
        if leftovers > 0 {
            return Ok(Outcome::fail("misled", "it sees what another saga left behind"));
        }
        let fails = matches!(wanted, Wanted::Fails | Wanted::StartsAndFails | Wanted::SqlError);
        write(tx, item.saga_id, "judge", i32::from(!fails)).await?;
        Ok(match wanted {
            Wanted::Fails => Outcome::fail("no", "it was written before"),
            Wanted::StartsAndFails => {
                tx.start(vec![CHILD.with(&Wanted::Done)]).await?;
                Outcome::fail("no", "a saga was started before")
            }
            Wanted::RetriesOnce if item.attempt == 1 => Outcome::Retry(Retry::message("not yet")),
            Wanted::SnoozesOnce if self.snoozed.lock().unwrap().insert(item.saga_id) => {
                Outcome::Retry(Retry::snooze(Duration::from_millis(1), "too early"))
            }
            Wanted::SqlError => {
                sqlx::query("select 1 / 0").execute(&mut **tx).await?;
                Outcome::Done(0)
            }
            Wanted::Done | Wanted::Refused | Wanted::RetriesOnce | Wanted::SnoozesOnce => Outcome::Done(0),
        })
    }
}

impl UndoItemStep<Judge> for Judge {
    const RETRY: RetryPolicy = fixtures::QUICK;

    async fn undo(
        _: &Judge,
        tx: &mut Tx<'_>,
        item: &UndoItem<Wanted, u32>,
    ) -> Result<UndoOutcome, StepError> {
        write(tx, item.saga_id, "judge", -1).await?;
        Ok(match item.input {
            Wanted::RetriesOnce if item.attempt == 1 => UndoOutcome::Retry(Retry::message("not yet")),
            _ => UndoOutcome::Done,
        })
    }
}

async fn write(tx: &mut Tx<'_>, saga_id: SagaId, step: &str, change: i32) -> Result<(), sqlx::Error> {
    sqlx::query("insert into effect (saga_id, step, change) values ($1, $2, $3)")
        .bind(saga_id.0)
        .bind(step)
        .bind(change)
        .execute(&mut **tx)
        .await
        .map(drop)
}

/// Fails every saga, so that the steps before it are undone.
struct Refuse;

impl TransactionStep for Refuse {
    const NAME: &'static str = "refuse";
    type Input = Wanted;
    type Output = u32;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Wanted>) -> Result<Outcomes<u32>, StepError> {
        Ok(batch.decide(|_| Outcome::fail("no", "it refuses everything")))
    }
}

/// A step that breaks its contract: it writes for every item of the batch, and then fails some.
struct Sloppy;

impl TransactionStep for Sloppy {
    const NAME: &'static str = "sloppy";
    type Input = Wanted;
    type Output = u32;
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Wanted>) -> Result<Outcomes<u32>, StepError> {
        for item in batch {
            write(tx, item.saga_id, "sloppy", 1).await?;
        }
        Ok(batch.decide(|item| match item.input {
            Wanted::Fails => Outcome::fail("no", "it was written before"),
            _ => Outcome::Done(0),
        }))
    }
}

fn judged() -> Definition {
    Saga::named(JUDGED).then(PerItem(Judge::default())).build().unwrap()
}

fn child() -> Definition {
    Saga::named(CHILD).then(PerItem(Judge::default())).build().unwrap()
}

fn judged_at_the_start() -> Definition {
    Saga::named(JUDGED).entry(PerItem(Judge::default())).build().unwrap()
}

/// Runs these sagas in batches that are as large as they can be.
async fn run_together(
    pool: &PgPool,
    definition: Definition,
    wanted: &[Wanted],
) -> Vec<(Wanted, SagaId, Status)> {
    let engine = Engine::builder(pool.clone()).register(definition).register(child()).build().unwrap();
    let sagas: Vec<NewSaga> = wanted.iter().map(|wanted| JUDGED.with(wanted)).collect();
    let mut transaction = pool.begin().await.unwrap();
    for started in engine.start_in(&mut transaction, sagas.clone()).await.unwrap() {
        started.unwrap();
    }
    transaction.commit().await.unwrap();
    let test = TestEngine::start(engine);
    let mut ends = Vec::new();
    for (wanted, saga) in wanted.iter().zip(&sagas) {
        let ending = test.engine.wait(saga.saga_id(), WAIT_TIMEOUT).await.unwrap().expect("every saga ends");
        ends.push((*wanted, saga.saga_id(), ending.status));
    }
    assert_eq!(test.engine.verify_histories(1000).await.unwrap(), []);
    test.close().await;
    ends
}

/// The rows that the step has written for a saga, as their number and sum.
async fn written(pool: &PgPool, saga_id: SagaId) -> (i64, i64) {
    sqlx::query_as("select count(*), coalesce(sum(change), 0) from effect where saga_id = $1")
        .bind(saga_id.0)
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

async fn expect_each_to_have_only_its_own(pool: &PgPool, ends: &[(Wanted, SagaId, Status)]) {
    for (wanted, saga_id, status) in ends {
        let expected = match wanted {
            Wanted::Done | Wanted::RetriesOnce | Wanted::SnoozesOnce => (Status::Completed, (1, 1)),
            Wanted::Refused | Wanted::Fails | Wanted::StartsAndFails | Wanted::SqlError => {
                (Status::Compensated, (0, 0))
            }
        };
        assert_eq!((*status, written(pool, *saga_id).await), expected, "{wanted:?}");
    }
}

// On a single thread all jobs of a claim are in one batch.
#[tokio::test]
async fn a_no_leaves_nothing_behind_and_its_neighbours_keep_what_they_wrote() {
    let (_database, pool) = fixtures::database().await;
    let wanted = [
        Wanted::Done,
        Wanted::Fails,
        Wanted::Done,
        Wanted::RetriesOnce,
        Wanted::Refused,
        Wanted::SnoozesOnce,
        Wanted::Fails,
        Wanted::Done,
    ];
    let ends = run_together(&pool, judged(), &wanted).await;
    expect_each_to_have_only_its_own(&pool, &ends).await;
    let misled = "select count(*) from engine.history where error::text like '%misled%'";
    assert_eq!(count(&pool, misled).await, 0, "no answer rests on what another saga left behind");
}

#[tokio::test]
async fn a_saga_alone_that_gets_a_no_leaves_nothing_behind() {
    for wanted in [Wanted::Fails, Wanted::RetriesOnce, Wanted::SnoozesOnce] {
        let (_database, pool) = fixtures::database().await;
        let ends = run_together(&pool, judged(), &[wanted]).await;
        expect_each_to_have_only_its_own(&pool, &ends).await;
        let repeated = "select count(*) from engine.history where attempt > 1";
        assert_eq!(count(&pool, repeated).await, i64::from(wanted == Wanted::RetriesOnce));
    }
}

#[tokio::test]
async fn many_noes_are_spread_over_transactions_of_few_savepoints() {
    let (_database, pool) = fixtures::database().await;
    let kinds = [Wanted::Fails, Wanted::Done, Wanted::SqlError, Wanted::RetriesOnce];
    let wanted: Vec<Wanted> = kinds.into_iter().cycle().take(120).collect();
    let ends = run_together(&pool, judged(), &wanted).await;
    expect_each_to_have_only_its_own(&pool, &ends).await;
    let largest = "select max(n) from (select count(*) as n from engine.history h \
         join engine.history_run r on r.saga_id = h.saga_id and r.seq = h.run where h.step = 'judge' \
         group by r.xmin::text) as transactions";
    assert!(count(&pool, largest).await <= 32, "each transaction ran few items one by one");
    let repeated = "select count(*) from engine.history where attempt > 1 and outcome = 'done'";
    assert_eq!(count(&pool, repeated).await, 30, "being left for another transaction is no attempt");
}

#[tokio::test]
async fn a_saga_started_before_a_no_does_not_exist() {
    let (_database, pool) = fixtures::database().await;
    let wanted = [Wanted::Done, Wanted::StartsAndFails, Wanted::Done];
    let ends = run_together(&pool, judged(), &wanted).await;
    expect_each_to_have_only_its_own(&pool, &ends).await;
    let children = "select count(*) from engine.saga where definition = 'child'";
    assert_eq!(count(&pool, children).await, 0);
    let lost =
        "select count(*) from effect e where not exists (select from engine.saga s where s.id = e.saga_id)";
    assert_eq!(count(&pool, lost).await, 0, "and no job of it was run");
}

#[tokio::test]
async fn a_started_saga_that_is_taken_back_holds_no_claim_and_no_slot() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(judged()).register(child()).build().unwrap();
    let test = TestEngine::start(engine);
    let saga = JUDGED.with(&Wanted::StartsAndFails);
    let (_, ending) = test.engine.start_and_wait(saga, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Compensated);
    // A later saga is done by the same worker, and then no claim is left, not even one of a saga that does not exist.
    let (_, ending) = test.engine.start_and_wait(JUDGED.with(&Wanted::Done), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    let engine = test.engine.clone();
    test.close().await;
    assert_eq!(engine.claim_count(), 0);
    assert_eq!(count(&pool, "select count(*) from engine.saga").await, 2);
}

#[tokio::test]
async fn an_undo_that_is_to_be_retried_leaves_nothing_behind() {
    let (_database, pool) = fixtures::database().await;
    let wanted = [Wanted::Done, Wanted::RetriesOnce, Wanted::Done, Wanted::RetriesOnce];
    let saga = Saga::named(JUDGED).then(PerItem(Judge::default())).then(Refuse).build().unwrap();
    for (wanted, saga_id, status) in run_together(&pool, saga, &wanted).await {
        assert_eq!(status, Status::Compensated);
        assert_eq!(
            written(&pool, saga_id).await,
            (2, 0),
            "{wanted:?}: one row of the action, one of the undo"
        );
    }
}

#[tokio::test]
async fn an_entry_step_that_says_no_leaves_nothing_behind() {
    let (_database, pool) = fixtures::database().await;
    let saga = judged_at_the_start();
    let engine = Engine::builder(pool.clone()).register(saga).register(child()).build().unwrap();
    let kinds = [Wanted::Done, Wanted::Fails, Wanted::RetriesOnce, Wanted::StartsAndFails, Wanted::SqlError];
    // With more starts than one transaction has savepoints, twice: the second time the step is known to say no often.
    for _ in 0..2 {
        let wanted: Vec<Wanted> = kinds.into_iter().cycle().take(100).collect();
        let starts = wanted.iter().map(|wanted| engine.start(JUDGED.with(wanted)));
        let answers = futures::future::join_all(starts).await;
        for (wanted, answer) in wanted.iter().zip(answers) {
            match wanted {
                Wanted::Done => {
                    let started = answer.unwrap();
                    assert_eq!(written(&pool, started.saga_id).await, (1, 1));
                }
                Wanted::Fails | Wanted::StartsAndFails => {
                    assert!(
                        matches!(&answer, Err(StartError::Refused(failure)) if failure.code == "no"),
                        "{answer:?}"
                    );
                }
                _ => assert!(matches!(answer, Err(StartError::Unavailable(_))), "{answer:?}"),
            }
        }
    }
    assert_eq!(count(&pool, "select count(*) from engine.saga").await, 40);
    assert_eq!(count(&pool, "select count(*) from effect").await, 40);
    let largest =
        "select max(n) from (select count(*) as n from engine.saga group by xmin::text) as transactions";
    assert!(count(&pool, largest).await <= 32, "each transaction ran few items one by one");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_refused_start_in_a_callers_transaction_leaves_nothing_behind() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(judged_at_the_start()).build().unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let sagas = [Wanted::Fails, Wanted::Done, Wanted::Fails].map(|wanted| JUDGED.with(&wanted));
    let answers = engine.start_in(&mut transaction, sagas.to_vec()).await.unwrap();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    transaction.commit().await.unwrap();
    assert_eq!(count(&pool, "select count(*) from effect").await, 1);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_finds_a_batch_step_that_writes_and_then_says_no() {
    let (_database, pool) = fixtures::database().await;
    let sloppy = || vec![Saga::named(JUDGED).then(Sloppy).build().unwrap()];
    let start = || JUDGED.with(&Wanted::Done);
    let report = Proof::of(JUDGED.name(), pool.clone(), sloppy, start)
        .says_no("sloppy", || JUDGED.with(&Wanted::Fails))
        .run()
        .await
        .unwrap();
    let [violation] = report.violations.as_slice() else { panic!("{report}") };
    assert_eq!((violation.case.kind, violation.case.step.as_str()), (Kind::ActionSaysNo, "sloppy"));
    assert!(violation.what.contains("left rows behind"), "{violation}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_finds_an_entry_step_that_writes_and_then_says_no() {
    let (_database, pool) = fixtures::database().await;
    let sloppy = || vec![Saga::named(JUDGED).entry(Sloppy).build().unwrap()];
    let start = || JUDGED.with(&Wanted::Done);
    let report = Proof::of(JUDGED.name(), pool.clone(), sloppy, start)
        .says_no("sloppy", || JUDGED.with(&Wanted::Fails))
        .run()
        .await
        .unwrap();
    let [violation] = report.violations.as_slice() else { panic!("{report}") };
    assert!(violation.what.contains("left rows behind"), "{violation}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_passes_one_item_steps_that_say_no_and_notices_a_start_that_no_step_refuses() {
    let (_database, pool) = fixtures::database().await;
    let start = || JUDGED.with(&Wanted::Done);
    let report = Proof::of(JUDGED.name(), pool.clone(), || vec![judged()], start)
        .says_no("judge", || JUDGED.with(&Wanted::Fails))
        .says_no("judge", || JUDGED.with(&Wanted::RetriesOnce))
        .says_no("judge", || JUDGED.with(&Wanted::Done))
        .run()
        .await
        .unwrap();
    let [violation] = report.violations.as_slice() else { panic!("{report}") };
    assert_eq!(violation.case.kind, Kind::ActionSaysNo);
    assert!(violation.what.contains("never met"), "{violation}");
}
