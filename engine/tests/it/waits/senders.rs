//! A sender waits for no lock of the saga, and no signal is lost whose sender dies or whose saga is busy.

use std::time::Duration;

use engine::{
    Engine, ForwardOnly, Item, ItemStep, NothingToUndo, Outcome, PerItem, Saga, SagaId, SagaName, Signal,
    SignalTarget, StartError, Status, StepError, Tx,
};

use super::{
    super::fixtures::{self, TestEngine, TestInput},
    APPROVAL, APPROVED, Approval, Decide, LONG, approved, said, waiting,
};
use crate::support::WAIT_TIMEOUT;

#[tokio::test]
async fn a_signal_in_a_callers_transaction_exists_if_that_commits() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    let id = test.engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    let mut transaction = pool.begin().await.unwrap();
    test.engine.signal_in(&mut transaction, id, APPROVAL.with(&Approval::by("eve"))).await.unwrap();
    transaction.rollback().await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    test.engine.signal_in(&mut transaction, id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    transaction.commit().await.unwrap();
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(said(&test.engine, id).await, "ada");
    test.close().await;
}

#[tokio::test]
async fn a_sender_waits_for_no_lock_and_the_saga_is_woken_when_it_is_free() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    let id = test.engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("select from engine.saga for update").execute(&mut *holder).await.unwrap();
    test.engine.signal(id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    // Long enough for the first nudge and some of the following.
    tokio::time::sleep(Duration::from_millis(400)).await;
    holder.rollback().await.unwrap();
    let forgotten = Duration::from_secs(4);
    let ending = test.engine.wait(id, forgotten).await.unwrap();
    assert_eq!(ending.expect("before the look for forgotten signals").status, Status::Completed);
    test.close().await;
}

#[tokio::test]
async fn a_signal_whose_sender_died_is_found() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    let id = test.engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    let sql = "insert into engine.inbox (saga_id, kind, name, key, payload) values ($1, 'signal', $2, 'k', '{\"by\": \"ada\"}')";
    // Another signal than the one that it waits for does not wake it.
    for name in ["other", "approval"] {
        sqlx::query(sql).bind(id.0).bind(name).execute(&pool).await.unwrap();
    }
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().expect("it is found");
    assert_eq!(said(&test.engine, id).await, "ada");
    test.close().await;
}

#[tokio::test]
async fn a_signal_that_was_stored_while_its_saga_ended_becomes_too_late() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(approved()));
    let id = test.engine.start(APPROVED.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(&pool, id).await;
    test.engine.signal(id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    let sql = "insert into engine.inbox (saga_id, kind, name, key, payload) values ($1, 'signal', 'approval', 'k', '{}')";
    sqlx::query(sql).bind(id.0).execute(&pool).await.unwrap();
    fixtures::holds(&pool, "select state = 'too_late' from engine.inbox where key = 'k'").await;
    test.close().await;
}

/// Approves the saga whose id is its input, and fails or not.
struct Approve {
    fails: bool,
}

impl ItemStep for Approve {
    const NAME: &'static str = "approve";
    type Input = String;
    type Output = ();
    type Undo = ForwardOnly;

    async fn run(&self, tx: &mut Tx<'_>, item: &Item<String>) -> Result<Outcome<()>, StepError> {
        let to = SignalTarget::key(APPROVED.name(), &item.input);
        let sent = tx.signal(to, APPROVAL.with(&Approval::by("a step"))).await;
        sent.map_err(|error| StepError::Other(error.to_string()))?;
        Ok(if self.fails { Outcome::fail("no", "it says no") } else { Outcome::Done(()) })
    }
}

#[tokio::test]
async fn a_step_sends_a_signal_in_its_transaction_and_a_no_takes_it_back() {
    const SAYS_NO: SagaName<String> = SagaName::new("says-no");
    const APPROVES: SagaName<String> = SagaName::new("approves");
    let (_database, pool) = fixtures::database().await;
    let one = |name, fails| Saga::named(name).pivot(PerItem(Approve { fails })).build().unwrap();
    let builder = Engine::builder(pool.clone()).register(approved());
    let test = TestEngine::build(builder.register(one(SAYS_NO, true)).register(one(APPROVES, false)));
    let id: SagaId =
        test.engine.start(APPROVED.with(&TestInput::default()).business_key("a-1")).await.unwrap().saga_id;
    waiting(&pool, id).await;
    let (_, ending) = test.engine.start_and_wait(SAYS_NO.with(&"a-1".into()), WAIT_TIMEOUT).await.unwrap();
    assert_ne!(ending.unwrap().status, Status::Completed);
    let stored: i64 = sqlx::query_scalar("select count(*) from engine.inbox").fetch_one(&pool).await.unwrap();
    assert_eq!(stored, 0);
    test.engine.start_and_wait(APPROVES.with(&"a-1".into()), WAIT_TIMEOUT).await.unwrap();
    test.engine
        .wait(id, Duration::from_secs(4))
        .await
        .unwrap()
        .expect("before the look for forgotten signals");
    assert_eq!(said(&test.engine, id).await, "a step");
    test.close().await;
}

/// Refuses every saga whose input says so.
struct Enter;

impl ItemStep for Enter {
    const NAME: &'static str = "enter";
    type Input = TestInput;
    type Output = ();
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, item: &Item<TestInput>) -> Result<Outcome<()>, StepError> {
        Ok(if item.input.at.is_some() { Outcome::fail("no", "it says no") } else { Outcome::Done(()) })
    }
}

#[tokio::test]
async fn a_start_sends_its_signal_to_the_new_saga_or_to_the_existing_one() {
    const ENTERS: SagaName<TestInput> = SagaName::new("enters");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(ENTERS).entry(PerItem(Enter)).signal("await-approval", APPROVAL.within(LONG));
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga.then(Decide).build().unwrap()));
    let start = |key: &str| ENTERS.with(&TestInput::default()).business_key(key);
    let ada = APPROVAL.with(&Approval::by("ada")).key("a");
    let (new, ending) =
        test.engine.start_and_wait(start("k-1").signal(ada.clone()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    assert_eq!(said(&test.engine, new.saga_id).await, "ada");

    let waits = test.engine.start(start("k-2")).await.unwrap().saga_id;
    waiting(&pool, waits).await;
    let existing = test.engine.start(start("k-2").signal(ada.clone())).await.unwrap();
    assert_eq!((existing.saga_id, existing.existing), (waits, true));
    test.engine
        .wait(waits, Duration::from_secs(4))
        .await
        .unwrap()
        .expect("before the look for forgotten signals");

    // As after a commit whose answer was lost: the same start once more, when its saga has ended.
    let again = start("k-6").signal(APPROVAL.with(&Approval::by("ada")));
    let (once, _) = test.engine.start_and_wait(again.clone(), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(test.engine.start(again).await.unwrap().saga_id, once.saga_id);

    let no = TestInput { at: Some("enter".into()), ..TestInput::default() };
    let refused = test.engine.start(ENTERS.with(&no).business_key("k-3").signal(ada.clone())).await;
    assert!(matches!(refused, Err(StartError::Refused(failure)) if failure.code == "no"));
    let unknown = Signal::untyped("consent", &serde_json::json!(1));
    let ended = start("k-1").signal(APPROVAL.with(&Approval::by("bob")));
    for bad in [start("k-4").signal(unknown), ended] {
        let refused = test.engine.start(bad).await;
        assert!(matches!(refused, Err(StartError::Refused(failure)) if failure.code == "signal-refused"));
    }
    let counts: (i64, i64) =
        sqlx::query_as("select (select count(*) from engine.saga), (select count(*) from engine.inbox)")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(counts, (3, 3), "nothing is stored of what was refused");
    test.close().await;
}

#[tokio::test]
async fn five_thousand_sagas_wait_without_a_claim_a_row_or_a_query_each() {
    const MANY: SagaName<TestInput> = SagaName::new("many");
    let (_database, pool) = fixtures::database().await;
    let saga =
        Saga::named(MANY).signal("await-approval", APPROVAL.within(LONG)).then(Decide).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga));
    let mut transaction = pool.begin().await.unwrap();
    let sagas = (0..5000).map(|n| MANY.with(&TestInput::default()).business_key(n.to_string())).collect();
    test.engine.start_in(&mut transaction, sagas).await.unwrap();
    transaction.commit().await.unwrap();
    fixtures::holds(&pool, "select count(*) = 5000 from engine.saga where waits_for = 'signal'").await;
    assert_eq!(test.engine.claim_count(), 0);
    let (entries, held): (i64, i64) = sqlx::query_as(
        "select (select count(*) from engine.history_run), \
             (select count(*) from engine.saga where lease_owner is not null or attempt > 0)",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!((entries, held), (0, 0));
    for n in 0..100 {
        let to = SignalTarget::key(MANY.name(), n.to_string());
        test.engine.signal(to, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    }
    fixtures::holds(&pool, "select count(*) = 100 from engine.saga where status = 'completed'").await;
    engine::testing::end_waits(&pool).await.unwrap();
    fixtures::holds(&pool, "select count(*) = 5000 from engine.saga where status = 'completed'").await;
    test.close().await;
}
