//! A saga belongs to the graph with which it was started, whatever is deployed or rolled back under it.

use std::time::Duration;

use engine::testing::expire_leases;
use engine::{
    Batch, CallStep, CancelOutcome, DeadJobAction, DeadJobError, DeadJobFilter, Definition, Direction,
    DiscardMode, Engine, EngineBuilder, Feed, GraphError, Item, Outcome, Outcomes, Page, Prospect,
    RetryPolicy, Saga, SagaId, SagaName, Status, StatusChange, StatusObserver, StepError, TransactionStep,
    Tx, UndoBatch, UndoCall, UndoItem, UndoOutcome, UndoOutcomes, UndoTransaction,
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

            async fn call(&self, item: &Item<TestInput>) -> Outcome<$output> {
                self.0.sent.lock().unwrap().push(item.idempotency_key.clone());
                Outcome::Done($output(item.idempotency_key.clone()))
            }
        }

        impl UndoCall<$step> for $step {
            const RETRY: RetryPolicy = QUICK;

            async fn undo(step: &$step, item: &UndoItem<TestInput, $output>) -> UndoOutcome {
                step.0.taken_back.lock().unwrap().push(item.action_key.clone());
                UndoOutcome::Done
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

#[tokio::test]
async fn new_sagas_take_the_newest_graph_and_run_beside_older_ones() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let old = leave(&pool, &world, Version::First, Standing::Running).await;
    let builder = quick(&pool).register(Version::Removed.definition(&world));
    let both = TestEngine::build(builder.also(Version::First.definition(&world)));
    let (new, ending) =
        both.engine.start_and_wait(TRIP.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    assert_eq!(both.engine.wait(old, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(effects_of(&pool, new.saga_id).await, expected(Version::Removed, 1, 1));
    assert_eq!(effects_of(&pool, old).await, expected(Version::First, 1, 1));
    let hash = |version: Version| version.definition(&world).graph().hash.clone();
    for (saga_id, version) in [(old, Version::First), (new.saga_id, Version::Removed)] {
        let saga = both.engine.saga(saga_id).await.unwrap().unwrap();
        assert_eq!(saga.graph_hash, hash(version));
        assert_eq!(both.engine.definition_of(&saga.graph_hash).unwrap().graph().hash, hash(version));
    }
    assert_eq!(both.engine.definition("trip").unwrap().graph().hash, hash(Version::Removed));
    both.close().await;
}

#[tokio::test]
async fn a_dead_run_is_acted_on_only_by_a_process_that_has_its_code() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let first = TestEngine::build(quick(&pool).register(Version::First.definition(&world)));
    let dies = || TRIP.with(&TestInput::with("file", fixtures::StepFault::SqlError));
    let mut dead = Vec::new();
    for _ in 0..2 {
        let (started, ending) = first.engine.start_and_wait(dies(), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(ending.unwrap().status, Status::Dead);
        dead.push(started.saga_id);
    }
    first.close().await;
    let jobs = async |engine: &Engine| engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items;

    let other = TestEngine::build(quick(&pool).register(Version::Removed.definition(&world)));
    let job = jobs(&other.engine).await.remove(0);
    let retried = other.engine.retry_dead_job(job.dead_job_id, "ada", "again").await;
    assert!(
        matches!(&retried, Err(DeadJobError::UnknownGraph { definition, .. }) if definition == "trip"),
        "{retried:?}"
    );
    let discarded = other.engine.discard_dead_job(job.dead_job_id, DiscardMode::Safe, "ada", "old").await;
    assert!(matches!(discarded, Err(DeadJobError::UnknownGraph { .. })), "{discarded:?}");
    let plan =
        other.engine.plan_dead_jobs(&DeadJobFilter::default(), DeadJobAction::Retry, 10).await.unwrap();
    assert!(
        plan.jobs.iter().all(|job| job.effect.as_ref().is_err_and(|why| why.contains("does not know"))),
        "{plan:?}"
    );
    sqlx::query("update engine.dead_job set expires_at = now()").execute(&pool).await.unwrap();
    assert_eq!(other.engine.expire_dead_jobs(10).await.unwrap(), 0, "no clock gives it up either");
    other.close().await;

    let both =
        quick(&pool).register(Version::Removed.definition(&world)).also(Version::First.definition(&world));
    let both = TestEngine::build(both);
    both.engine.retry_dead_job(job.dead_job_id, "ada", "again").await.unwrap();
    assert_eq!(both.engine.wait(job.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Dead);
    assert_eq!(both.engine.verify_histories(100).await.unwrap(), []);
    both.close().await;
}

#[tokio::test]
async fn a_graph_is_stored_before_its_first_saga_even_in_a_transaction_of_the_caller() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let stored = async |version: Version| {
        sqlx::query_scalar::<_, bool>("select exists (select from engine.graph where hash = $1)")
            .bind(&version.definition(&world).graph().hash)
            .fetch_one(&pool)
            .await
            .unwrap()
    };
    // Neither engine works on a queue or is announced, so that no heartbeat stores the graph.
    let first = Engine::builder(pool.clone()).register(Version::First.definition(&world)).build().unwrap();
    assert!(!stored(Version::First).await);
    first.start(TRIP.with(&TestInput::default())).await.unwrap();
    assert!(stored(Version::First).await);
    let removed =
        Engine::builder(pool.clone()).register(Version::Removed.definition(&world)).build().unwrap();
    let mut transaction = pool.begin().await.unwrap();
    removed.start_in(&mut transaction, vec![TRIP.with(&TestInput::default())]).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(stored(Version::Removed).await);
    first.shutdown().await;
    removed.shutdown().await;
}

#[tokio::test]
async fn graphs_that_could_be_confused_do_not_build() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let first = || Version::First.definition(&world);
    let same = Engine::builder(pool.clone()).register(first()).also(first()).build();
    let message = same.err().unwrap().to_string();
    assert!(message.contains("`trip` are the same") && message.contains("`revision`"), "{message}");
    let none = Engine::builder(pool.clone()).also(first()).build();
    let message = none.err().unwrap().to_string();
    assert!(message.contains("register its newest graph"), "{message}");
    let twice = Engine::builder(pool).register(first()).register(Version::Removed.definition(&world)).build();
    assert!(twice.err().unwrap().to_string().contains(&GraphError::SagaTwice("trip".into()).to_string()));
}

/// The first version with an output in another form, and no other revision: the mistake that a check before the deploy finds.
fn careless(world: &ExternalWorld) -> Definition {
    struct FlightInWords;

    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    struct InWords(String);

    impl TransactionStep for FlightInWords {
        const NAME: &'static str = "flight";
        const RETRY: RetryPolicy = QUICK;
        type Input = TestInput;
        type Output = InWords;
        type Undo = Self;

        async fn run(
            &self,
            _: &mut Tx<'_>,
            batch: &Batch<TestInput>,
        ) -> Result<Outcomes<InWords>, StepError> {
            Ok(batch.decide(|_| Outcome::Done(InWords("one".into()))))
        }
    }

    impl UndoTransaction<FlightInWords> for FlightInWords {
        const RETRY: RetryPolicy = QUICK;

        async fn undo(
            _: &FlightInWords,
            _: &mut Tx<'_>,
            batch: &UndoBatch<TestInput, InWords>,
        ) -> Result<UndoOutcomes, StepError> {
            Ok(batch.decide(|_| UndoOutcome::Done))
        }
    }

    let ask = Ask(world.clone());
    Saga::named(TRIP).then(FlightInWords).then(Hotel).then_call(ask).pivot(Seal).then(File).build().unwrap()
}

#[tokio::test]
async fn a_check_before_a_deploy_names_what_the_build_does_not_know_and_what_it_can_not_read() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let saga_id = leave(&pool, &world, Version::First, Standing::Running).await;
    leave(&pool, &world, Version::Removed, Standing::Compensating).await;
    let check = async |newest: Definition, earlier: Option<Definition>| {
        let mut builder = Engine::builder(pool.clone()).register(newest);
        if let Some(earlier) = earlier {
            builder = builder.also(earlier);
        }
        let engine = builder.build().unwrap();
        let kinds = engine.check_in_flight().await.unwrap();
        engine.shutdown().await;
        kinds
    };
    let kinds = check(Version::First.definition(&world), Some(Version::Removed.definition(&world))).await;
    assert_eq!(kinds.iter().map(|kind| kind.sagas).sum::<u64>(), 2, "{kinds:?}");
    assert!(kinds.iter().all(|kind| kind.prospect == Prospect::GoesOn && kind.first.is_none()), "{kinds:?}");

    let kinds = check(Version::First.definition(&world), None).await;
    let at_risk: Vec<_> = kinds.iter().filter(|kind| kind.prospect.is_at_risk()).collect();
    let [unknown] = at_risk.as_slice() else { panic!("{kinds:?}") };
    assert_eq!(
        (unknown.prospect, unknown.sagas, unknown.status, unknown.direction, unknown.step.as_str()),
        (Prospect::Unknown, 1, Status::Compensating, Direction::Undo, "hotel")
    );

    let kinds = check(careless(&world), Some(Version::Removed.definition(&world))).await;
    let at_risk: Vec<_> = kinds.iter().filter(|kind| kind.prospect.is_at_risk()).collect();
    let [unreadable] = at_risk.as_slice() else { panic!("{kinds:?}") };
    assert_eq!((unreadable.prospect, unreadable.sagas), (Prospect::Unreadable, 1));
    let (first, why) = unreadable.first.clone().unwrap();
    assert_eq!(first, saga_id);
    assert!(why.contains("the stored output of `flight` can't be read"), "{why}");
}

#[tokio::test]
async fn an_undo_that_can_not_read_its_output_dies_with_its_name_and_is_finished_by_the_right_build() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let saga_id = leave(&pool, &world, Version::First, Standing::Compensating).await;
    let wrong = TestEngine::build(quick(&pool).register(careless(&world)));
    assert_eq!(wrong.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Dead);
    let job = wrong.engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items.remove(0);
    assert!(job.error.contains("the stored output of `flight` can't be read"), "{}", job.error);
    wrong.close().await;
    let right = TestEngine::build(quick(&pool).register(Version::First.definition(&world)));
    right.engine.retry_dead_job(job.dead_job_id, "ada", "deployed with a revision").await.unwrap();
    assert_eq!(right.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(effects_of(&pool, saga_id).await, expected(Version::First, 0, 2));
    right.close().await;
}

#[tokio::test]
async fn runs_whose_begun_steps_are_the_same_are_moved_to_the_newest_graph() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let hash = |version: Version| version.definition(&world).graph().hash.clone();
    let running = leave(&pool, &world, Version::First, Standing::Running).await;
    // The newest graph has one more step behind the call, which these runs have not reached.
    let newest = || {
        let trip = Saga::named(TRIP).then(Flight).then(Hotel).then_call(Ask(world.clone()));
        trip.then_call(Insure(world.clone())).pivot(Seal).then(File).build().unwrap()
    };
    let test = TestEngine::build(quick(&pool).register(newest()));
    let engine = &test.engine;
    is_set_aside(&pool, running).await;
    let kinds = engine.check_in_flight().await.unwrap();
    assert_eq!(kinds.iter().map(|kind| kind.prospect).collect::<Vec<_>>(), [Prospect::CanBeMoved]);
    let plan = engine.plan_move("trip", &hash(Version::First), 100).await.unwrap();
    assert_eq!((plan.to.as_str(), plan.sagas.len()), (newest().graph().hash.as_str(), 1));
    assert_eq!((plan.sagas[0].saga_id, &plan.sagas[0].refusal), (running, &None));
    assert_eq!(
        engine.saga(running).await.unwrap().unwrap().graph_hash,
        hash(Version::First),
        "a plan changes nothing"
    );

    let result = engine.carry_out_move(&plan, WAIT_TIMEOUT, "ada", "the old code is gone").await.unwrap();
    assert_eq!((result.moved, result.skipped), (vec![running], vec![]));
    assert_eq!(engine.wait(running, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(keys(&world.sent, running, "insure"), 1, "it took the new step");
    assert_eq!(effects_of(&pool, running).await, expected(Version::First, 1, 1));
    assert_eq!(engine.verify_histories(100).await.unwrap(), []);
    let audit: (String, String, String, String) = sqlx::query_as(
        "select actor, action, before->>'graph_hash', after->>'graph_hash' from engine.audit where saga_id = $1",
    )
    .bind(running.0)
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(audit, ("ada".into(), "move".into(), hash(Version::First), newest().graph().hash.clone()));
    let again = engine.carry_out_move(&plan, WAIT_TIMEOUT, "ada", "again").await.unwrap();
    assert_eq!(again.skipped, [(running, "it has gone on since the plan was made".to_owned())]);
    test.close().await;
}

#[tokio::test]
async fn runs_that_do_not_fit_the_newest_graph_are_not_moved_and_the_plan_says_why() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let cases = [
        (Version::First, Standing::InDoubt, Version::Revised, "may have been made"),
        (Version::First, Standing::Vanished, Version::Revised, "a worker holds it"),
        (Version::First, Standing::Compensating, Version::Revised, "it is compensating"),
        (
            Version::First,
            Standing::Running,
            Version::Removed,
            "step 1 is `flight`, and the other graph has `hotel` there",
        ),
        (
            Version::First,
            Standing::Running,
            Version::Added,
            "step 2 is `hotel`, and the other graph has `insure` there",
        ),
    ];
    for (from, standing, to, why) in cases {
        let saga_id = leave(&pool, &world, from, standing).await;
        let engine = Engine::builder(pool.clone()).register(to.definition(&world)).build().unwrap();
        let from_hash = from.definition(&world).graph().hash.clone();
        let plan = engine.plan_move("trip", &from_hash, 100).await.unwrap();
        let planned = plan.sagas.iter().find(|planned| planned.saga_id == saga_id).unwrap();
        let refusal = planned.refusal.as_deref().unwrap();
        assert!(refusal.contains(why), "{from:?} {standing:?} to {to:?}: {refusal}");
        let result = engine.carry_out_move(&plan, WAIT_TIMEOUT, "ada", "try").await.unwrap();
        assert!(result.skipped.iter().any(|(id, _)| *id == saga_id), "{result:?}");
        let saga = engine.saga(saga_id).await.unwrap().unwrap();
        assert_eq!(saga.graph_hash, from_hash);
        engine.shutdown().await;
        let right = TestEngine::build(quick(&pool).register(from.definition(&world)));
        right.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
        right.close().await;
    }

    // A type that does not read what is stored.
    let saga_id = leave(&pool, &world, Version::Revised, Standing::Running).await;
    let engine = Engine::builder(pool.clone()).register(careless(&world)).build().unwrap();
    let plan =
        engine.plan_move("trip", &Version::Revised.definition(&world).graph().hash, 100).await.unwrap();
    let refusal = plan.sagas[0].refusal.as_deref().unwrap();
    assert_eq!(plan.sagas[0].saga_id, saga_id);
    assert!(refusal.contains("the stored output of `flight` can't be read"), "{refusal}");
    for (definition, hash) in [("trip", "g1:0"), ("tea", "g1:0")] {
        engine.plan_move(definition, hash, 100).await.unwrap_err();
    }
    let newest = engine.plan_move("trip", &careless(&world).graph().hash, 100).await.unwrap();
    assert_eq!(newest.sagas, [], "there is nothing to move");
    engine.shutdown().await;
}

/// Records in the table of effects that it was told.
struct Told;

impl StatusObserver for Told {
    async fn status_changed(&self, tx: &mut Tx<'_>, changes: &[StatusChange]) -> Result<(), StepError> {
        record_effect(tx, changes.iter().map(|change| change.saga_id.0).collect(), "told", 1).await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_cancel_that_ends_a_run_at_once_is_noted_for_a_process_that_can_tell_its_observer() {
    let (_database, pool) = fixtures::database().await;
    let observed = || Saga::named(TRIP).then(Flight).pivot(Seal).observed_by(Told).build().unwrap();
    let caller = quick(&pool).register(observed()).build().unwrap();
    let saga_id = caller.start(TRIP.with(&TestInput::default())).await.unwrap().saga_id;
    caller.shutdown().await;
    let world = ExternalWorld::default();
    let other = TestEngine::build(quick(&pool).register(Version::First.definition(&world)));
    is_set_aside(&pool, saga_id).await;
    let outcome = other.engine.cancel(saga_id, "ada", "not needed").await.unwrap();
    assert_eq!(outcome, CancelOutcome::Requested);
    let again = other.engine.cancel(saga_id, "ada", "not needed").await.unwrap();
    assert_eq!(again, CancelOutcome::Requested);
    let saga = other.engine.saga(saga_id).await.unwrap().unwrap();
    assert_eq!((saga.status, saga.cancel_requested), (Status::Running, true));
    other.close().await;

    let right = TestEngine::build(quick(&pool).register(observed()));
    assert_eq!(right.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(effects_of(&pool, saga_id).await, [("told".to_owned(), 1, 1)], "no step was run");
    assert_eq!(right.engine.verify_histories(100).await.unwrap(), []);
    right.close().await;
}
