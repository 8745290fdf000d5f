//! Steps that are tested without an engine.

use engine::{
    Batch, Item, ItemStep, NothingToUndo, Outcome, Outcomes, SagaName, SignalTarget, StepError,
    TransactionStep, Tx, UndoOutcome, UndoTransaction,
    testing::{self, StartedSaga},
};
use sqlx::PgPool;

use super::planted::Guests;
use crate::it::{
    fixtures::{self, Pack, StepFault, TestInput},
    waits::{APPROVAL, Approval},
};

async fn effects(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select coalesce(sum(change), 0)::bigint from effect").fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_batch_step_and_its_undo_run_in_the_transaction_of_a_test() {
    let (_database, pool) = fixtures::database().await;
    let mut transaction = pool.begin().await.unwrap();
    let mut steps = testing::tx(&mut transaction);
    let fails = TestInput::with("pack", StepFault::Fails);
    let batch = testing::batch([TestInput::default(), fails, TestInput::default()]);
    assert!(batch.iter().is_sorted_by_key(|item| item.saga_id), "a batch is in the order of the ids");
    let outcomes = Pack.run(&mut steps.tx(), &batch).await.unwrap();
    let done: Vec<bool> = outcomes.iter().map(|outcome| matches!(outcome, Outcome::Done(_))).collect();
    assert_eq!(done, [true, false, true]);

    let done = testing::batch_of(batch.iter().filter(|item| item.input.at.is_none()).cloned());
    let outputs = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Done(packed) => Some(packed.clone()),
        Outcome::Fail(_) | Outcome::Retry(_) => None,
    });
    let undo = testing::undo_batch(&done, outputs);
    assert!(undo.iter().zip(&done).all(|(undo, done)| undo.action_key == done.idempotency_key));
    let answers = <Pack as UndoTransaction<Pack>>::undo(&Pack, &mut steps.tx(), &undo).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, UndoOutcome::Done)));
    let left: i64 = sqlx::query_scalar("select sum(change)::bigint from effect")
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(left, 0);
    transaction.rollback().await.unwrap();
    assert_eq!(effects(&pool).await, 0);
}

/// Invites a guest: it starts a saga, and tells the one that waits.
struct Invite;

const INVITATION: SagaName<Guests> = SagaName::new("invitation");

impl ItemStep for Invite {
    const NAME: &'static str = "invite";
    type Input = String;
    type Output = bool;
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, item: &Item<String>) -> Result<Outcome<bool>, StepError> {
        let invitation = INVITATION.with(&Guests { count: 1 }).business_key(&item.input);
        let started = tx.start(vec![invitation]).await?;
        let host = SignalTarget::key("party", "party-1");
        tx.signal(host, APPROVAL.with(&Approval::by(&item.input)))
            .await
            .map_err(|error| StepError::Other(error.to_string()))?;
        Ok(Outcome::Done(item.context::<u8>() == Some(&7) && !started[0].existing))
    }
}

#[tokio::test]
async fn a_test_sees_what_a_step_started_and_sent() {
    let (_database, pool) = fixtures::database().await;
    let mut conn = pool.acquire().await.unwrap();
    let mut steps = testing::tx(&mut conn);
    let items = [testing::item_with_context("ada".to_owned(), 7_u8), testing::item("ada".to_owned())];
    for (item, is_new) in items.iter().zip([true, false]) {
        let answer = Invite.run(&mut steps.tx(), item).await.unwrap();
        assert!(matches!(answer, Outcome::Done(done) if done == is_new));
    }
    let [StartedSaga { definition, input, business_key, .. }] = steps.started() else {
        panic!("{:?}", steps.started())
    };
    assert_eq!((definition.as_str(), business_key.as_deref()), ("invitation", Some("ada")));
    assert_eq!(input["count"], 1);
    assert_eq!(steps.sent().len(), 2);
    assert_eq!(steps.sent()[0].message["by"], "ada");
}

/// Reads its input shared.
struct Count;

impl TransactionStep for Count {
    const NAME: &'static str = "count";
    type Input = engine::Shared<Guests>;
    type Output = u32;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<u32>, StepError> {
        Ok(batch.decide(|item| Outcome::Done(item.input.count)))
    }
}

#[tokio::test]
async fn a_shared_input_is_made_by_hand() {
    let (_database, pool) = fixtures::database().await;
    let mut conn = pool.acquire().await.unwrap();
    let batch = testing::batch([4, 9].map(|count| Guests { count }.into()));
    let outcomes = Count.run(&mut testing::tx(&mut conn).tx(), &batch).await.unwrap();
    let counts: Vec<u32> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Done(count) => Some(*count),
            Outcome::Fail(_) | Outcome::Retry(_) => None,
        })
        .collect();
    assert_eq!(counts, [4, 9]);
}
