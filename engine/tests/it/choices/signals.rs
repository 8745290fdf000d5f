//! Waits in arms.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use engine::{
    Definition, Item, Outcome, PerItem, Saga, SagaName, SignalState, Status, StepError, Tx,
    testing::end_waits,
};

use super::{Drive, Parcel, Weigh, done, engine_of, verified};
use crate::{
    it::fixtures,
    it::waits::{APPROVAL, Approval, LONG},
    support::WAIT_TIMEOUT,
};

const ASKS: SagaName<Parcel> = SagaName::new("asks-first");

/// Rests, waits for an approval if the parcel is insured, and rests again.
fn asks_first() -> Definition {
    Saga::named(ASKS)
        .then(Weigh)
        .sleep("rest", LONG)
        .when(
            "is-insured",
            |parcel: &Parcel| parcel.insured,
            |arm| arm.signal("await-approval", APPROVAL.within(LONG)),
        )
        .sleep("rest-again", LONG)
        .then(Drive)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_signal_for_a_wait_in_an_arm_is_kept_for_it_and_too_late_once_the_arm_is_left_out() {
    let (_database, pool) = fixtures::database().await;
    let test = engine_of(&pool, asks_first());
    for insured in [true, false] {
        let parcel = Parcel { insured, ..Parcel::default() };
        let id = test.engine.start(ASKS.with(&parcel)).await.unwrap().saga_id;
        let at = |step: &str| {
            format!("select step = '{step}' and waits_for is not null from engine.saga where id = '{id}'")
        };
        fixtures::holds(&pool, &at("rest")).await;
        let early = test.engine.signal(id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
        assert_eq!(early.state, SignalState::Buffered, "the choice is not made yet");
        end_waits(&pool).await.unwrap();
        fixtures::holds(&pool, &at("rest-again")).await;
        let state: String = sqlx::query_scalar("select state from engine.inbox where saga_id = $1")
            .bind(id.0)
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(state, if insured { "consumed" } else { "too_late" });
        let late = test.engine.signal(id, APPROVAL.with(&Approval::by("bob"))).await.unwrap();
        assert_eq!(late.state, SignalState::TooLate, "no wait for it can come any more");
        end_waits(&pool).await.unwrap();
        assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
        assert_eq!(done(&test.engine, id).await.contains(&"await-approval".into()), insured);
    }
    verified(&test.engine).await;
    test.close().await;
}

/// Several waits and choices in a row are gone through in one commit.
#[tokio::test]
async fn signals_that_have_come_lead_through_waits_and_choices_in_one_commit() {
    const ALL: SagaName<Parcel> = SagaName::new("all-at-once");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(ALL)
        .sleep("rest", LONG)
        .when("one", |_: &Parcel| true, |arm| arm.signal("first", APPROVAL.within(LONG)))
        .when("two", |_: &Parcel| false, |arm| arm.signal("never", APPROVAL.within(LONG)))
        .when(
            "three",
            |_: &Parcel| true,
            |arm| arm.when("four", |_: &Parcel| true, |arm| arm.signal("second", APPROVAL.within(LONG))),
        )
        .then(Weigh)
        .build()
        .unwrap();
    let test = engine_of(&pool, saga);
    let id = test.engine.start(ALL.with(&Parcel::default())).await.unwrap().saga_id;
    fixtures::holds(&pool, "select waits_for = 'sleep' from engine.saga").await;
    for who in ["ada", "bob"] {
        test.engine.signal(id, APPROVAL.with(&Approval::by(who))).await.unwrap();
    }
    end_waits(&pool).await.unwrap();
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(
        done(&test.engine, id).await,
        ["rest", "one", "first", "two", "three", "four", "second", "weigh"]
    );
    let epochs: i64 =
        sqlx::query_scalar("select count(distinct epoch) from engine.history_run where seq > 0")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(epochs, 1);
    verified(&test.engine).await;
    test.close().await;
}

/// Uses no SQL, so that its savepoint is still fresh afterwards.
struct Quiet;

impl engine::ItemStep for Quiet {
    const NAME: &'static str = "quiet";
    type Input = Parcel;
    type Output = bool;
    type Undo = engine::NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, _: &Item<Parcel>) -> Result<Outcome<bool>, StepError> {
        Ok(Outcome::Done(true))
    }
}

/// Writes, and says no the first time.
struct SaysNoOnce(Arc<AtomicBool>);

impl engine::ItemStep for SaysNoOnce {
    const NAME: &'static str = "says-no-once";
    const RETRY: engine::RetryPolicy = fixtures::QUICK;
    type Input = Parcel;
    type Output = bool;
    type Undo = engine::NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, item: &Item<Parcel>) -> Result<Outcome<bool>, StepError> {
        fixtures::record_effect(tx, vec![item.saga_id.0], "says-no-once", 1).await?;
        if self.0.swap(true, Ordering::Relaxed) {
            return Ok(Outcome::Done(true));
        }
        Ok(Outcome::Retry(engine::Retry::message("not yet")))
    }
}

/// What a step wrote before its no is taken back, and not the signal that was taken before it in the same transaction.
#[tokio::test]
async fn a_no_does_not_take_back_a_signal_that_was_taken_before() {
    const NAME: SagaName<Parcel> = SagaName::new("no-after-signal");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(NAME)
        .sleep("rest", LONG)
        .then(PerItem(Quiet))
        .signal("await-approval", APPROVAL.within(LONG))
        .then(PerItem(SaysNoOnce(Arc::default())))
        .build()
        .unwrap();
    let test = engine_of(&pool, saga);
    let id = test.engine.start(NAME.with(&Parcel::default())).await.unwrap().saga_id;
    fixtures::holds(&pool, "select waits_for = 'sleep' from engine.saga").await;
    test.engine.signal(id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    end_waits(&pool).await.unwrap();
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    let state: String = sqlx::query_scalar("select state from engine.inbox").fetch_one(&pool).await.unwrap();
    assert_eq!(state, "consumed");
    assert_eq!(fixtures::effects(&pool, "says-no-once").await, 1);
    verified(&test.engine).await;
    test.close().await;
}
