//! Runs that an operator moves to the newest graph.

use std::time::Duration;

use engine::{
    Batch, Engine, ForwardOnly, Outcome, Outcomes, Prospect, Saga, SagaName, Status, StepError,
    TransactionStep, Tx,
};

use super::{
    Ask, Flight, Hotel, Insure, Standing, TRIP, Version, checks::careless, effects_of, expected,
    is_set_aside, keys, leave, quick,
};
use crate::{
    it::fixtures::{self, ExternalWorld, File, Seal, TestEngine, TestInput, record_effect},
    support::WAIT_TIMEOUT,
};

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

/// The first step of two graphs: it locks a row that all want.
struct Take;

impl TransactionStep for Take {
    const NAME: &'static str = "take";
    type Input = TestInput;
    type Output = u8;
    type Undo = ForwardOnly;

    fn locks(&self, _: &TestInput) -> Vec<String> {
        vec!["tea".into()]
    }

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<u8>, StepError> {
        sqlx::query("select from product for update").execute(&mut **tx).await?;
        Ok(batch.decide(|_| Outcome::Done(1)))
    }
}

/// Defines a step that comes after it in one graph only.
macro_rules! next {
    ($step:ident, $name:literal, $output:ty) => {
        struct $step;

        impl TransactionStep for $step {
            const NAME: &'static str = $name;
            type Input = TestInput;
            type Output = $output;
            type Undo = ForwardOnly;

            async fn run(
                &self,
                tx: &mut Tx<'_>,
                batch: &Batch<TestInput>,
            ) -> Result<Outcomes<$output>, StepError> {
                record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), $name, 1).await?;
                Ok(batch.decide(|_| Outcome::Done(1)))
            }
        }
    };
}

next!(Brew, "brew", u16);
next!(Pour, "pour", u32);

#[tokio::test]
async fn runs_that_are_moved_while_they_are_held_up_take_the_steps_of_their_new_graph() {
    const TEA: SagaName<TestInput> = SagaName::new("tea");
    let (_database, pool) = fixtures::database().await;
    sqlx::raw_sql("create table product (sku text primary key); insert into product values ('tea')")
        .execute(&pool)
        .await
        .unwrap();
    let earlier = || Saga::named(TEA).pivot(Take).then(Brew).build().unwrap();
    let newest = || Saga::named(TEA).pivot(Take).then(Pour).build().unwrap();
    let caller = Engine::builder(pool.clone()).register(earlier()).build().unwrap();
    let mut runs = Vec::new();
    for _ in 0..20 {
        runs.push(caller.start(TEA.with(&TestInput::default())).await.unwrap().saga_id);
    }
    caller.shutdown().await;

    let mut lock = pool.begin().await.unwrap();
    sqlx::query("select from product for update").execute(&mut *lock).await.unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(newest()).also(earlier()));
    fixtures::holds(&pool, "select count(*) = 20 from engine.saga where waits_for = 'lock'").await;
    // A scout may hold one of them at this moment, and it is tried again for a long time.
    let mut moved = Vec::new();
    while moved.len() < 10 {
        let plan = test.engine.plan_move("tea", &earlier().graph().hash, 10).await.unwrap();
        let most = plan.sagas.len().min(10 - moved.len());
        let plan = engine::MovePlan { sagas: plan.sagas[..most].to_vec(), ..plan };
        moved.extend(
            test.engine.carry_out_move(&plan, Duration::from_secs(5), "ada", "mixed").await.unwrap().moved,
        );
    }
    lock.rollback().await.unwrap();
    for run in &runs {
        let ending = test.engine.wait(*run, WAIT_TIMEOUT).await.unwrap().unwrap();
        assert_eq!(ending.status, Status::Completed);
        let step = if moved.contains(run) { "pour" } else { "brew" };
        assert_eq!(effects_of(&pool, *run).await, [(step.to_owned(), 1, 1)]);
    }
    assert_eq!(test.engine.verify_histories(100).await.unwrap(), []);
    test.close().await;
}
