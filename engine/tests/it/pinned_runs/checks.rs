//! What a check before a deploy finds, and what happens without it.

use engine::{
    Batch, DeadJobFilter, Definition, Direction, Engine, Outcome, Outcomes, Prospect, RetryPolicy, Saga,
    Status, StepError, TransactionStep, Tx, UndoBatch, UndoOutcome, UndoOutcomes, UndoTransaction,
};

use super::{ALL, Ask, Hotel, Standing, TRIP, Version, effects_of, expected, leave, quick};
use crate::{
    it::fixtures::{self, ExternalWorld, File, QUICK, Seal, TestEngine, TestInput},
    support::WAIT_TIMEOUT,
};

/// The first version with an output in another form, and no other revision: the mistake that a check before the deploy finds.
pub(super) fn careless(world: &ExternalWorld) -> Definition {
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
