//! A saga belongs to the graph with which it was started, whatever is deployed or rolled back under it.

mod checks;
mod code_elsewhere;
mod moves;
mod processes;
mod side_by_side;

use std::time::Duration;

use engine::{
    Batch, CallError, CallStep, CancelOutcome, Definition, Engine, EngineBuilder, Feed, Item, Outcome,
    Outcomes, Page, RetryPolicy, Saga, SagaId, SagaName, Status, StepError, TransactionStep, Tx, UndoBatch,
    UndoCall, UndoItem, UndoOutcome, UndoOutcomes, UndoTransaction, testing::expire_leases,
};
use sqlx::PgPool;

use super::fixtures::{self, ExternalWorld, File, QUICK, Seal, TestEngine, TestInput, record_effect};
use crate::support::WAIT_TIMEOUT;

const TRIP: SagaName<TestInput> = SagaName::new("trip");
const ALL: Page = Page { after: None, limit: 100 };

/// Defines a transaction step that records its effect, and whose undo takes it back.
macro_rules! step {
    ($step:ident, $name:literal, $output:ident) => {
        struct $step;

        #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
        struct $output(u8);

        impl TransactionStep for $step {
            const NAME: &'static str = $name;
            const RETRY: RetryPolicy = QUICK;
            type Input = TestInput;
            type Output = $output;
            type Undo = Self;

            async fn run(
                &self,
                tx: &mut Tx<'_>,
                batch: &Batch<TestInput>,
            ) -> Result<Outcomes<$output>, StepError> {
                record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), $name, 1).await?;
                Ok(batch.decide(|_| Outcome::Done($output(1))))
            }
        }

        impl UndoTransaction<$step> for $step {
            const RETRY: RetryPolicy = QUICK;

            async fn undo(
                _: &$step,
                tx: &mut Tx<'_>,
                batch: &UndoBatch<TestInput, $output>,
            ) -> Result<UndoOutcomes, StepError> {
                record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), $name, -1).await?;
                Ok(batch.decide(|_| UndoOutcome::Done))
            }
        }
    };
}

step!(Flight, "flight", FlightBooked);
step!(Hotel, "hotel", HotelBooked);

/// Defines a call step to an outside world.
macro_rules! call {
    ($step:ident, $name:literal, $output:ident) => {
        struct $step(ExternalWorld);

        #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
        struct $output(String);

        impl CallStep for $step {
            const NAME: &'static str = $name;
            const RETRY: RetryPolicy = QUICK;
            type Input = TestInput;
            type Output = $output;
            type Undo = Self;

            async fn call(&self, item: &Item<TestInput>) -> Result<Outcome<$output>, CallError> {
                self.0.sent.lock().unwrap().push(item.idempotency_key.clone());
                Ok(Outcome::Done($output(item.idempotency_key.clone())))
            }
        }

        impl UndoCall<$step> for $step {
            const RETRY: RetryPolicy = QUICK;

            async fn undo(
                step: &$step,
                item: &UndoItem<TestInput, Option<$output>>,
            ) -> Result<UndoOutcome, CallError> {
                step.0.taken_back.lock().unwrap().push(item.action_key.clone());
                Ok(UndoOutcome::Done)
            }
        }
    };
}

call!(Ask, "ask", Asked);
call!(Insure, "insure", Insured);

/// The graphs of one saga, as versions of its code have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    First,
    /// Without a step that stands before the call.
    Removed,
    /// With one more call there.
    Added,
    /// With two steps in the other order.
    Reordered,
    /// With the same steps and another revision, because an output is written in another form.
    Revised,
}

impl Version {
    fn definition(self, world: &ExternalWorld) -> Definition {
        let (trip, ask) = (Saga::named(TRIP), Ask(world.clone()));
        let built = match self {
            Self::First => trip.then(Flight).then(Hotel).then_call(ask).pivot(Seal).then(File).build(),
            Self::Removed => trip.then(Hotel).then_call(ask).pivot(Seal).then(File).build(),
            Self::Added => {
                let insure = Insure(world.clone());
                trip.then(Flight).then_call(insure).then(Hotel).then_call(ask).pivot(Seal).then(File).build()
            }
            Self::Reordered => trip.then(Hotel).then(Flight).then_call(ask).pivot(Seal).then(File).build(),
            Self::Revised => {
                trip.revision(1).then(Flight).then(Hotel).then_call(ask).pivot(Seal).then(File).build()
            }
        };
        built.unwrap()
    }

    fn books_flight(self) -> bool {
        self != Self::Removed
    }
}

/// Where a run stands when another version is deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// At the call, which was not made.
    Running,
    /// At the call, which was made; its process gave it up.
    InDoubt,
    /// At the call, which was made by a process that vanished.
    Vanished,
    /// On its way back from the call.
    Compensating,
}

fn quick(pool: &PgPool) -> EngineBuilder {
    Engine::builder(pool.clone()).unknown_grace(Duration::ZERO).sweep(Duration::from_millis(20))
}

/// Runs a saga of this version up to its call, and leaves it as it stands.
async fn leave(pool: &PgPool, world: &ExternalWorld, version: Version, standing: Standing) -> SagaId {
    let engine = quick(pool).register(version.definition(world)).build().unwrap();
    let mut feed: Feed = engine.feed("default", 1);
    let saga_id = engine.start(TRIP.with(&TestInput::default())).await.unwrap().saga_id;
    let job = loop {
        let job = feed.recv().await.unwrap();
        if job.step() == "ask" {
            break job;
        }
        let performed = engine.perform(&job).await;
        engine.commit(job, performed).await;
    };
    match standing {
        Standing::Running => engine.release(job),
        Standing::InDoubt => {
            engine.perform(&job).await;
            engine.abandon(job);
        }
        Standing::Vanished => {
            engine.perform(&job).await;
            drop(job);
            feed.close();
            feed.closed().await;
            expire_leases(pool, engine.worker()).await.unwrap();
        }
        Standing::Compensating => {
            engine.release(job);
            feed.close();
            feed.closed().await;
            let cancelled = engine.cancel(saga_id, "ada", "changed her mind").await.unwrap();
            assert_eq!(cancelled, CancelOutcome::Compensating);
        }
    }
    feed.close();
    feed.closed().await;
    engine.shutdown().await;
    saga_id
}

async fn effects_of(pool: &PgPool, saga_id: SagaId) -> Vec<(String, i64, i64)> {
    sqlx::query_as(
        "select step, sum(change), count(*) from effect where saga_id = $1 group by step order by step",
    )
    .bind(saga_id.0)
    .fetch_all(pool)
    .await
    .unwrap()
}

/// Of each step, the effect that is left and how often it was changed.
fn expected(version: Version, left: i64, changes: i64) -> Vec<(String, i64, i64)> {
    let mut steps = vec!["hotel"];
    if version.books_flight() {
        steps.insert(0, "flight");
    }
    if left == 1 {
        steps.insert(0, "file");
        steps.push("seal");
    }
    steps.into_iter().map(|step| (step.to_owned(), left, changes)).collect()
}

fn keys(calls: &std::sync::Mutex<Vec<String>>, saga_id: SagaId, step: &str) -> usize {
    let prefix = format!("{saga_id}:{step}:");
    calls.lock().unwrap().iter().filter(|key| key.starts_with(&prefix)).count()
}

async fn is_set_aside(pool: &PgPool, saga_id: SagaId) {
    let aside = "select waits_for = 'version' and due_at is null and lease_until is null \
         from engine.saga where id = ";
    fixtures::holds(pool, &format!("{aside} '{saga_id}'")).await;
}

/// Another version is deployed under a run (or the deploy is rolled back), and the run is left to itself or cancelled.
async fn deployed_under(from: Version, to: Version) {
    let (_database, pool) = fixtures::database().await;
    for standing in [Standing::Running, Standing::InDoubt, Standing::Vanished, Standing::Compensating] {
        for cancels in [false, true] {
            let case = format!("{from:?} to {to:?}, {standing:?}, cancels: {cancels}");
            let world = ExternalWorld::default();
            let saga_id = leave(&pool, &world, from, standing).await;
            // It is due, and neither found by its id nor by a poll.
            let idle = Engine::builder(pool.clone()).register(to.definition(&world)).build().unwrap();
            assert_eq!(idle.claim_ids(&[saga_id]).await.unwrap(), 0, "{case}");
            idle.shutdown().await;
            let alone = TestEngine::build(quick(&pool).register(to.definition(&world)));
            is_set_aside(&pool, saga_id).await;
            if cancels {
                let outcome = alone.engine.cancel(saga_id, "ada", "by another version").await.unwrap();
                let expected = match standing {
                    Standing::Compensating => CancelOutcome::AlreadyCompensating,
                    Standing::Vanished => CancelOutcome::Requested,
                    Standing::Running | Standing::InDoubt => CancelOutcome::Compensating,
                };
                assert_eq!(outcome, expected, "{case}");
                is_set_aside(&pool, saga_id).await;
            }
            assert_eq!(alone.engine.verify_histories(100).await.unwrap(), [], "{case}");

            let both = quick(&pool).register(to.definition(&world)).also(from.definition(&world));
            let both = TestEngine::build(both);
            let ending = both.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
            let goes_back = cancels || standing == Standing::Compensating;
            let status = if goes_back { Status::Compensated } else { Status::Completed };
            assert_eq!(ending.status, status, "{case}");
            let (left, changes) = if goes_back { (0, 2) } else { (1, 1) };
            assert_eq!(effects_of(&pool, saga_id).await, expected(from, left, changes), "{case}");
            // The call was undone only if it may have been made; a call that the run never had was neither made nor undone.
            let may_be_made = matches!(standing, Standing::InDoubt | Standing::Vanished);
            let undone = usize::from(goes_back && may_be_made);
            assert_eq!(keys(&world.taken_back, saga_id, "ask"), undone, "{case}");
            let insured = usize::from(from == Version::Added);
            assert_eq!(keys(&world.sent, saga_id, "insure"), insured, "{case}");
            let uninsured = usize::from(from == Version::Added && goes_back);
            assert_eq!(keys(&world.taken_back, saga_id, "insure"), uninsured, "{case}");
            assert_eq!(both.engine.verify_histories(100).await.unwrap(), [], "{case}");
            both.close().await;
            alone.close().await;
        }
    }
}

#[tokio::test]
async fn a_run_goes_on_with_its_graph_after_a_deploy_that_removes_a_step() {
    deployed_under(Version::First, Version::Removed).await;
}

#[tokio::test]
async fn a_run_goes_on_with_its_graph_after_a_deploy_that_adds_a_call() {
    deployed_under(Version::First, Version::Added).await;
}

#[tokio::test]
async fn a_run_goes_on_with_its_graph_after_a_deploy_that_reorders_steps() {
    deployed_under(Version::First, Version::Reordered).await;
}

#[tokio::test]
async fn a_run_goes_on_with_its_graph_after_a_deploy_of_another_revision() {
    deployed_under(Version::First, Version::Revised).await;
}

#[tokio::test]
async fn a_run_goes_on_with_its_graph_after_a_rollback_from_a_version_that_removed_a_step() {
    deployed_under(Version::Removed, Version::First).await;
}

#[tokio::test]
async fn a_run_goes_on_with_its_graph_after_a_rollback_from_a_version_that_added_a_call() {
    deployed_under(Version::Added, Version::First).await;
}

#[tokio::test]
async fn a_run_goes_on_with_its_graph_after_a_rollback_from_a_version_that_reordered_steps() {
    deployed_under(Version::Reordered, Version::First).await;
}
