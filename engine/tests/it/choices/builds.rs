//! The graphs of choices, their hashes, and what does not build.

use engine::{Arm, Engine, GraphError, Saga, SagaName, StepKind};

use super::{Declare, Drive, Ferry, Parcel, SEND, Stamp, Weigh, send_parcel};
use crate::{
    it::fixtures::{self, TestEngine},
    it::waits::{APPROVAL, LONG},
    support::WAIT_TIMEOUT,
};

const NAME: SagaName<Parcel> = SagaName::new("any");

#[test]
fn the_graph_lists_the_steps_of_the_arms_behind_their_choice() {
    let definition = send_parcel();
    let graph = definition.graph();
    let nodes: Vec<_> = graph
        .steps
        .iter()
        .map(|node| {
            let arm = node.arm.as_ref().map(|arm| format!("{}:{}", arm.choice, arm.arm));
            (node.name.as_str(), arm.unwrap_or_default(), node.after.join(" "), node.reads.join(" "))
        })
        .collect();
    let node = |name, arm: &str, after: &str, reads: &str| {
        (name, arm.to_owned(), after.to_owned(), reads.to_owned())
    };
    assert_eq!(
        nodes,
        [
            node("weigh", "", "", "input"),
            node("goes-abroad", "", "weigh", "input"),
            node("declare", "goes-abroad:yes", "goes-abroad", "weigh"),
            node("ferry", "goes-abroad:yes", "declare", "weigh declare"),
            node("drive", "goes-abroad:no", "goes-abroad", "weigh"),
            node("is-insured", "", "ferry drive", "input"),
            node("insure", "is-insured:yes", "is-insured", "goes-abroad"),
            node("is-fragile", "is-insured:yes", "insure", "input"),
            node("pad", "is-fragile:yes", "is-fragile", "insure weigh"),
            node("finish", "", "is-insured is-fragile pad", "input goes-abroad insure pad"),
        ]
    );
    let choice = graph.steps[1].choice.unwrap();
    assert_eq!(
        (graph.steps[1].kind, choice.first(Arm::Yes), choice.first(Arm::No)),
        (StepKind::Choice, 2, 4)
    );
    let stored: engine::Graph = serde_json::from_value(serde_json::to_value(graph).unwrap()).unwrap();
    assert_eq!(&stored, graph);
}

#[test]
fn the_hash_covers_the_choices_and_the_arms_of_the_steps() {
    let hash = |definition: Result<engine::Definition, GraphError>| definition.unwrap().graph().hash.clone();
    let always = |_: &Parcel| true;
    let when = hash(Saga::named(NAME).then(Weigh).when("choice", always, |arm| arm.then(Drive)).build());
    assert_eq!(when, "g1:2618b3a2a64ef9d1");
    let never =
        hash(Saga::named(NAME).then(Weigh).when("choice", |_: &Parcel| false, |arm| arm.then(Drive)).build());
    assert_eq!(when, never, "the predicate is code");
    let other = |name| hash(Saga::named(NAME).then(Weigh).when(name, always, |arm| arm.then(Drive)).build());
    assert_ne!(when, other("other"));
    // The same steps in the same order, in other arms.
    let inside = Saga::named(NAME).then(Weigh).when("choice", always, |arm| arm.then(Drive).then(Stamp));
    let outside = Saga::named(NAME).then(Weigh).when("choice", always, |arm| arm.then(Drive)).then(Stamp);
    assert_ne!(hash(inside.build()), hash(outside.build()));
    let nested = Saga::named(NAME)
        .when("one", always, |arm| arm.then(Weigh).when("two", always, |arm| arm.then(Drive)));
    let in_a_row = Saga::named(NAME)
        .when("one", always, |arm| arm.then(Weigh))
        .when("two", always, |arm| arm.then(Stamp));
    assert_ne!(hash(nested.build()), hash(in_a_row.build()));
    assert_eq!(hash(Ok(send_parcel())), "g1:76f3ea85be5cf431");
}

#[test]
fn an_arm_without_steps_does_not_build() {
    let empty =
        Saga::named(NAME).then(Weigh).when("choice", |_: &Parcel| true, |arm| arm).build().unwrap_err();
    assert_eq!(empty, GraphError::EmptyArm { saga: "any".into(), choice: "choice".into() });
    assert_eq!(
        empty.to_string(),
        "choice `choice` of saga `any` has no steps in its arm: add one, or leave the choice out"
    );
}

#[test]
fn names_are_unique_over_all_arms() {
    let twice = Saga::named(NAME)
        .then(Weigh)
        .when("choice", |_: &Parcel| true, |arm| arm.then(Drive))
        .when("other", |_: &Parcel| true, |arm| arm.then(Drive))
        .build()
        .unwrap_err();
    assert_eq!(twice, GraphError::NameTwice { saga: "any".into(), step: "drive".into() });
    let choice =
        Saga::named(NAME).when("weigh", |_: &Parcel| true, |arm| arm.then(Weigh)).build().unwrap_err();
    assert!(matches!(choice, GraphError::NameTwice { .. }));
    let name =
        Saga::named(NAME).when("Is it?", |_: &Parcel| true, |arm| arm.then(Weigh)).build().unwrap_err();
    assert_eq!(name, GraphError::BadName("Is it?".into()));
}

/// The sleeps of one arm count, and not those of both.
#[test]
fn waits_of_each_way_have_to_fit_into_the_deadline() {
    let with = |yes, no, after| {
        Saga::named(NAME)
            .deadline(LONG)
            .then(Weigh)
            .either("choice", |_: &Parcel| true, |arm| arm.sleep("one", yes), |arm| arm.sleep("two", no))
            .signal("await-approval", APPROVAL.within(after))
            .then(Drive)
            .build()
    };
    let third = LONG / 3;
    assert!(with(third, third, third).is_ok(), "a saga sleeps in one arm only");
    for (yes, no) in [(third * 2, third), (third, third * 2)] {
        let beyond = with(yes, no, third).unwrap_err();
        assert!(matches!(&beyond, GraphError::WaitBeyondDeadline { step, .. } if step == "await-approval"));
    }
}

#[tokio::test]
async fn a_saga_in_an_arm_is_moved_to_a_graph_whose_other_arm_is_new() {
    const MOVES: SagaName<Parcel> = SagaName::new("moves");
    let (_database, pool) = fixtures::database().await;
    let first = || {
        Saga::named(MOVES)
            .then(Weigh)
            .either(
                "goes-abroad",
                |parcel: &Parcel| parcel.abroad,
                |abroad| abroad.then(Declare).then(Ferry),
                |inland| inland.then(Drive),
            )
            .sleep("rest", LONG)
            .then(Stamp)
            .build()
            .unwrap()
    };
    // The arm abroad has one step less, so all that follow have other places.
    let second = || {
        Saga::named(MOVES)
            .then(Weigh)
            .either(
                "goes-abroad",
                |parcel: &Parcel| parcel.abroad,
                |abroad| abroad.then(super::Fly),
                |inland| inland.then(Drive),
            )
            .sleep("rest", LONG)
            .then(Stamp)
            .build()
            .unwrap()
    };
    let old = TestEngine::build(Engine::builder(pool.clone()).register(first()));
    let mut ids = Vec::new();
    for abroad in [false, true] {
        let parcel = Parcel { abroad, ..Parcel::default() };
        ids.push(old.engine.start(MOVES.with(&parcel)).await.unwrap().saga_id);
    }
    fixtures::holds(&pool, "select count(*) = 2 from engine.saga where waits_for = 'sleep'").await;
    old.close().await;
    let new = TestEngine::build(Engine::builder(pool.clone()).register(second()));
    let plan = new.engine.plan_move("moves", &first().graph().hash, 100).await.unwrap();
    let refusals: Vec<_> = ids
        .iter()
        .map(|id| plan.sagas.iter().find(|saga| saga.saga_id == *id).unwrap().refusal.clone())
        .collect();
    assert_eq!(refusals[0], None, "the arm that it took is the same");
    let refused = refusals[1].as_deref().unwrap();
    assert_eq!(refused, "step 3 is `declare`, and the other graph has `fly` there");
    let moved = new.engine.carry_out_move(&plan, WAIT_TIMEOUT, "ada", "the old code is gone").await.unwrap();
    assert_eq!(moved.moved, [ids[0]]);
    engine::testing::end_waits(&pool).await.unwrap();
    new.engine.wait(ids[0], WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(super::done(&new.engine, ids[0]).await, ["weigh", "goes-abroad", "drive", "rest", "stamp"]);
    super::verified(&new.engine).await;
    new.close().await;
}

#[tokio::test]
async fn any_process_can_check_the_histories_of_choices() {
    let (_database, pool) = fixtures::database().await;
    let test = super::engine_of(&pool, send_parcel());
    test.engine.start_and_wait(SEND.with(&super::PARCELS[2]), WAIT_TIMEOUT).await.unwrap();
    test.close().await;
    let other = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    super::verified(&other).await;
    sqlx::query("update engine.saga set arms = 'yyy'").execute(&pool).await.unwrap();
    let violations = other.verify_histories(10).await.unwrap();
    assert!(violations[0].violation.contains("the history leads to"), "{violations:?}");
    other.shutdown().await;
}
