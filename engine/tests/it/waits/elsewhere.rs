//! Signals through a process that does not have the code of the saga.

use engine::{
    Batch, Definition, Engine, NothingToUndo, Outcome, Outcomes, Prospect, Saga, SagaName, Signal,
    SignalError, SignalName, Signalled, Status, StepError, TransactionStep, Tx,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    super::fixtures::{self, Pack, TestEngine, TestInput},
    APPROVAL, APPROVED, Approval, Decide, LONG, approved, said, verified, waiting,
};
use crate::support::WAIT_TIMEOUT;

#[tokio::test]
async fn any_process_sends_a_signal_and_a_message_that_can_not_be_read_is_left_out() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    let id = test.engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    let other = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let unknown = other.signal(id, Signal::untyped("consent", &json!(1))).await.unwrap_err();
    assert!(matches!(unknown, SignalError::UnknownSignal { known, .. } if known == ["approval"]));
    for message in [json!({"by": 7}), json!("ada"), json!({"by": "bob"})] {
        other.signal(id, Signal::untyped("approval", &message)).await.unwrap();
    }
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(said(&test.engine, id).await, "bob");
    let states: Vec<String> =
        sqlx::query_scalar("select state from engine.inbox order by id").fetch_all(&pool).await.unwrap();
    assert_eq!(
        states,
        ["too_late", "too_late", "consumed"],
        "what no code could read, nobody takes any more"
    );
    verified(&test.engine).await;
    other.shutdown().await;
    test.close().await;
}

/// The approval as a later version would have it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct DatedApproval {
    by: String,
    on: String,
}

/// The same graph with another type of message, which changes no hash.
fn dated() -> Definition {
    const DATED: SignalName<DatedApproval> = SignalName::new("approval");
    Saga::named(APPROVED).then(Pack).signal("await-approval", DATED.within(LONG)).then(Late).build().unwrap()
}

struct Late;

impl TransactionStep for Late {
    const NAME: &'static str = "decide";
    type Input = Signalled<DatedApproval>;
    type Output = String;
    type Undo = NothingToUndo;

    async fn run(
        &self,
        _: &mut Tx<'_>,
        batch: &Batch<Signalled<DatedApproval>>,
    ) -> Result<Outcomes<String>, StepError> {
        let by = |input: Signalled<DatedApproval>| input.received().map_or("nobody".into(), |dated| dated.by);
        Ok(batch.decide(|item| Outcome::Done(by(item.input.clone()))))
    }
}

#[tokio::test]
async fn a_deploy_that_changes_the_type_of_a_message_loses_none_and_a_check_tells_of_it_before() {
    let (_database, pool) = fixtures::database().await;
    let first = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    let [kept, ended] = ["one", "two"].map(|_| APPROVED.with(&TestInput::default()));
    let kept = first.engine.start(kept).await.unwrap().saga_id;
    let ended = first.engine.start(ended).await.unwrap().saga_id;
    waiting(&pool, kept).await;
    waiting(&pool, ended).await;
    first.close().await;
    let idle = Engine::builder(pool.clone()).register(approved()).build().unwrap();
    for id in [kept, ended] {
        idle.signal(id, APPROVAL.with(&Approval::by("ada")).key("k")).await.unwrap();
    }
    assert!(idle.check_in_flight().await.unwrap().iter().all(|kind| !kind.prospect.is_at_risk()));

    let deployed = TestEngine::build(Engine::builder(pool.clone()).register(dated()));
    let checked = deployed.engine.check_in_flight().await.unwrap();
    let [kind] = checked.as_slice() else { panic!("{checked:?}") };
    assert_eq!((kind.prospect, kind.sagas), (Prospect::Unreadable, 2));
    let (_, why) = kind.first.as_ref().unwrap();
    assert!(why.starts_with("a signal `approval` for it can't be read: missing field `on`"), "{why}");
    fixtures::holds(&pool, "select count(*) = 2 from engine.inbox where state = 'unreadable'").await;
    fixtures::holds(
        &pool,
        "select count(*) = 2 from engine.saga where waits_for = 'signal' and due_at > now()",
    )
    .await;
    // What its code can read is taken, though it came later.
    let dated = serde_json::json!({"by": "bob", "on": "Monday"});
    deployed.engine.signal(ended, Signal::untyped("approval", &dated)).await.unwrap();
    deployed.engine.wait(ended, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(said(&deployed.engine, ended).await, "bob");
    deployed.close().await;

    // After a rollback its time is over, and the message is there.
    let back = TestEngine::start(idle);
    engine::testing::end_waits(&pool).await.unwrap();
    back.engine.wait(kept, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(said(&back.engine, kept).await, "ada");
    let states: Vec<String> =
        sqlx::query_scalar("select state from engine.inbox order by id").fetch_all(&pool).await.unwrap();
    assert_eq!(states, ["consumed", "too_late", "consumed"]);
    verified(&back.engine).await;
    back.close().await;
}

#[tokio::test]
async fn a_saga_whose_code_is_gone_keeps_its_signal_and_its_time() {
    let (_database, pool) = fixtures::database().await;
    let first = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    let id = first.engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
    let until = waiting(&pool, id).await;
    first.close().await;
    let other = Engine::builder(pool.clone()).register(fixtures::plain_saga());
    let other = TestEngine::build(
        other.sweep(std::time::Duration::from_millis(20)).unknown_grace(std::time::Duration::from_millis(50)),
    );
    other.engine.signal(id, Signal::untyped("approval", &json!({"by": "ada"}))).await.unwrap();
    fixtures::holds(&pool, "select waits_for = 'version' from engine.saga").await;
    let saga = other.engine.saga(id).await.unwrap().unwrap();
    assert_eq!(saga.wait_until, Some(until));
    let back = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    assert_eq!(back.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(said(&back.engine, id).await, "ada");
    other.close().await;
    back.close().await;
}

#[tokio::test]
async fn a_waiting_saga_is_moved_with_its_time_if_the_new_graph_waits_for_the_same_signal() {
    const SIGNAL: engine::SignalName<u8> = engine::SignalName::new("consent");
    const NAME: SagaName<TestInput> = APPROVED;
    let (_database, pool) = fixtures::database().await;
    let first = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    let id = first.engine.start(NAME.with(&TestInput::default())).await.unwrap().saga_id;
    let until = waiting(&pool, id).await;
    let old = approved().graph().hash.clone();
    first.close().await;
    let differs = Saga::named(NAME).then(Pack).signal("await-approval", SIGNAL.within(LONG)).build().unwrap();
    let differs = Engine::builder(pool.clone()).register(differs).build().unwrap();
    let plan = differs.plan_move(NAME.name(), &old, 10).await.unwrap();
    let why = "step 2, `await-approval`, waits for another signal in the other graph";
    assert_eq!(plan.sagas[0].refusal.as_deref(), Some(why));
    let longer = Saga::named(NAME).then(Pack).signal("await-approval", APPROVAL.within(LONG / 2));
    let longer = longer.then(Decide).sleep("rest", std::time::Duration::ZERO).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(longer));
    let plan = test.engine.plan_move(NAME.name(), &old, 10).await.unwrap();
    let moved = test.engine.carry_out_move(&plan, WAIT_TIMEOUT, "ops", "the old version goes").await.unwrap();
    assert_eq!(moved.moved, [id]);
    assert_eq!(waiting(&pool, id).await, until);
    test.engine.signal(id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    verified(&test.engine).await;
    differs.shutdown().await;
    test.close().await;
}
