//! Which steps are run, and what later ones read.

use engine::{Arm, Definition, Engine, Saga, SagaName, Status};
use serde_json::json;

use super::{
    Drive, Finish, PARCELS, Parcel, SEND, Weigh, done, engine_of, send_parcel, stored_arms, verified,
};
use crate::{
    it::fixtures::{self, TestEngine},
    support::WAIT_TIMEOUT,
};

/// What a parcel's saga does, the arms that it takes, and what it says.
fn wanted(parcel: Parcel) -> (Vec<&'static str>, &'static str, String) {
    let mut steps = vec!["weigh", "goes-abroad"];
    let shipped = if parcel.abroad {
        steps.extend(["declare", "ferry"]);
        "ferry weigh true+declare weigh true"
    } else {
        steps.push("drive");
        "drive weigh false"
    };
    steps.push("is-insured");
    if parcel.insured {
        steps.extend(["insure", "is-fragile"]);
    }
    if parcel.fragile {
        steps.push("pad");
    }
    steps.push("finish");
    let arms = match (parcel.abroad, parcel.insured, parcel.fragile) {
        (false, false, _) => "nn",
        (false, true, false) => "nyn",
        (false, true, true) => "nyy",
        (true, false, _) => "yn",
        (true, true, _) => "yyy",
    };
    let policy = if parcel.insured { format!("insure {shipped}") } else { "uninsured".into() };
    let padded = if parcel.fragile { format!("pad insure {shipped}") } else { "bare".into() };
    (steps, arms, format!("{shipped}; {policy}; {padded}"))
}

#[tokio::test]
async fn the_steps_of_the_arms_that_the_data_choose_are_run_in_one_commit_and_read_as_options() {
    let (_database, pool) = fixtures::database().await;
    let test = engine_of(&pool, send_parcel());
    for parcel in PARCELS {
        let (started, ending) = test.engine.start_and_wait(SEND.with(&parcel), WAIT_TIMEOUT).await.unwrap();
        let (steps, arms, said) = wanted(parcel);
        assert_eq!(SEND.result(&ending.unwrap()).unwrap(), Some(said), "{parcel:?}");
        assert_eq!(done(&test.engine, started.saga_id).await, steps);
        assert_eq!(stored_arms(&pool, started.saga_id).await.as_deref(), Some(arms));
        let rows: i64 = sqlx::query_scalar("select count(*) from engine.history_run where saga_id = $1")
            .bind(started.saga_id.0)
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(rows, 1, "the choices share the row of the steps");
    }
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn the_history_and_the_saga_say_which_arms_were_taken() {
    let (_database, pool) = fixtures::database().await;
    let test = engine_of(&pool, send_parcel());
    let (started, _) = test.engine.start_and_wait(SEND.with(&PARCELS[1]), WAIT_TIMEOUT).await.unwrap();
    let history = test.engine.history(started.saga_id).await.unwrap().unwrap();
    let arms: Vec<_> = history
        .iter()
        .filter(|entry| ["goes-abroad", "is-insured", "is-fragile"].contains(&entry.step.as_str()))
        .map(|entry| (entry.step.as_str(), entry.output.clone().unwrap()))
        .collect();
    assert_eq!(
        arms,
        [("goes-abroad", json!("no")), ("is-insured", json!("yes")), ("is-fragile", json!("no"))]
    );
    let saga = test.engine.saga(started.saga_id).await.unwrap().unwrap();
    assert_eq!(saga.arms.iter().collect::<Vec<_>>(), [Arm::No, Arm::Yes, Arm::No]);
    assert_eq!(serde_json::to_value(&saga).unwrap()["arms"], json!(["no", "yes", "no"]));
    test.close().await;
}

/// Sagas that take different arms stand at different steps of one batch.
#[tokio::test]
async fn sagas_of_one_batch_take_different_arms() {
    let (_database, pool) = fixtures::database().await;
    let idle = Engine::builder(pool.clone()).register(send_parcel()).build().unwrap();
    let mut started = Vec::new();
    for nth in 0..60 {
        let parcel = PARCELS[nth % PARCELS.len()];
        started.push((parcel, idle.start(SEND.with(&parcel)).await.unwrap().saga_id));
    }
    let test = TestEngine::start(idle);
    for (parcel, id) in started {
        let ending = test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
        assert_eq!(SEND.result(&ending).unwrap(), Some(wanted(parcel).2));
    }
    verified(&test.engine).await;
    test.close().await;
}

const ENDS: SagaName<Parcel> = SagaName::new("ends-in-a-choice");

/// A choice is the first step, and another one the last.
fn at_both_ends() -> Definition {
    Saga::named(ENDS)
        .when("weighs", |parcel: &Parcel| parcel.abroad, |arm| arm.then(Weigh))
        .when("again", |weight: &Option<super::Weight>| weight.is_none(), |arm| arm.then(super::Stamp))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_choice_may_be_the_first_step_and_the_last_and_leave_everything_out() {
    let (_database, pool) = fixtures::database().await;
    let test = engine_of(&pool, at_both_ends());
    for (abroad, steps) in
        [(true, ["weighs", "weigh", "again"].as_slice()), (false, &["weighs", "again", "stamp"])]
    {
        let parcel = Parcel { abroad, ..Parcel::default() };
        let (started, ending) = test.engine.start_and_wait(ENDS.with(&parcel), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(ending.unwrap().status, Status::Completed);
        assert_eq!(done(&test.engine, started.saga_id).await, steps);
    }
    verified(&test.engine).await;
    test.close().await;
}

/// A stored `null` is a value: what was left out is told by its absence.
#[tokio::test]
async fn what_was_run_and_gave_nothing_is_not_taken_for_what_was_left_out() {
    const NULLS: SagaName<Parcel, String> = SagaName::new("nulls");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(NULLS)
        .when("looks", |parcel: &Parcel| parcel.abroad, |arm| arm.then(super::Look))
        .returns(|seen: &Option<Option<u32>>| format!("{seen:?}"))
        .build()
        .unwrap();
    let test = engine_of(&pool, saga);
    for (abroad, said) in [(true, "Some(None)"), (false, "None")] {
        let parcel = Parcel { abroad, ..Parcel::default() };
        let (_, ending) = test.engine.start_and_wait(NULLS.with(&parcel), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(NULLS.result(&ending.unwrap()).unwrap().as_deref(), Some(said));
    }
    test.close().await;
}

#[tokio::test]
async fn an_entry_step_may_be_followed_by_a_choice() {
    const ENTERS: SagaName<Parcel, String> = SagaName::new("enters");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(ENTERS)
        .entry(Weigh)
        .either(
            "goes-abroad",
            |parcel: &Parcel| parcel.abroad,
            |abroad| abroad.then(super::Declare).then(super::Ferry),
            |inland| inland.then(Drive),
        )
        .when(
            "is-insured",
            |parcel: &Parcel| parcel.insured,
            |arm| {
                let arm = arm.then(super::Insure);
                arm.when("is-fragile", |parcel: &Parcel| parcel.fragile, |fragile| fragile.then(super::Pad))
            },
        )
        .then(Finish)
        .returns_output()
        .build()
        .unwrap();
    let test = engine_of(&pool, saga);
    for parcel in PARCELS {
        let (_, ending) = test.engine.start_and_wait(ENTERS.with(&parcel), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(ENTERS.result(&ending.unwrap()).unwrap(), Some(wanted(parcel).2));
    }
    verified(&test.engine).await;
    test.close().await;
}

/// The arms of an `either` may end in another one: whichever of the three ways a saga goes, what it gives is read.
#[tokio::test]
async fn the_last_output_of_nested_arms_is_read_behind_both_choices() {
    const NESTED: SagaName<Parcel, String> = SagaName::new("nested");
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(NESTED)
        .then(Weigh)
        .either(
            "goes-abroad",
            |parcel: &Parcel| parcel.abroad,
            |abroad| {
                let abroad = abroad.then(super::Declare);
                abroad.either(
                    "is-fragile",
                    |parcel: &Parcel| parcel.fragile,
                    |fragile| fragile.then(super::Ferry),
                    |solid| solid.then(super::Fly),
                )
            },
            |inland| inland.then(Drive),
        )
        .then(super::Insure)
        .when("is-insured", |parcel: &Parcel| parcel.insured, |arm| arm.then(super::Pad))
        .returns(|(policy, padded): &(super::Policy, Option<super::Padded>)| {
            format!("{}; {}", policy.0, padded.is_some())
        })
        .build()
        .unwrap();
    assert_eq!(saga.graph().steps[7].after, ["ferry", "fly", "drive"]);
    assert_eq!(saga.graph().steps[7].reads, ["goes-abroad"]);
    let test = engine_of(&pool, saga);
    let declared = "declare weigh true";
    for (parcel, said) in [
        (
            Parcel { abroad: true, fragile: true, ..Parcel::default() },
            format!("insure ferry weigh true+{declared}; false"),
        ),
        (Parcel { abroad: true, insured: true, ..Parcel::default() }, "insure fly weigh true; true".into()),
        (Parcel::default(), "insure drive weigh false; false".into()),
    ] {
        let (_, ending) = test.engine.start_and_wait(NESTED.with(&parcel), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(NESTED.result(&ending.unwrap()).unwrap(), Some(said));
    }
    verified(&test.engine).await;
    test.close().await;
}
