//! Waits that can't be right do not build, and say what to do.

use std::time::Duration;

use engine::{GraphError, Saga, SagaName, SignalName, StepKind};

use super::{APPROVAL, Approval, LONG, approved};
use crate::it::fixtures::{File, Pack, Seal, TestInput};

const NAME: SagaName<TestInput> = SagaName::new("any");

#[test]
fn a_wait_without_an_end_does_not_build() {
    let endless = Saga::named(NAME).signal("wait", APPROVAL.within(Duration::MAX)).build().unwrap_err();
    assert!(matches!(&endless, GraphError::EndlessWait { step, .. } if step == "wait"));
    assert!(endless.to_string().contains("waits without an end"), "{endless}");
    assert!(Saga::named(NAME).sleep("rest", Duration::MAX).build().is_err());
}

#[test]
fn a_wait_beyond_the_deadline_does_not_build() {
    let with = |time| Saga::named(NAME).deadline(LONG).then(Pack).sleep("rest", time).pivot(Seal).build();
    assert!(with(LONG / 2).is_ok());
    let beyond = with(LONG).unwrap_err();
    assert!(matches!(&beyond, GraphError::WaitBeyondDeadline { step, .. } if step == "rest"));
    assert!(beyond.to_string().contains("wait for less, or set a later deadline"), "{beyond}");
    let together = Saga::named(NAME).deadline(LONG).sleep("one", LONG / 2).sleep("two", LONG / 2).then(Pack);
    assert!(together.build().is_err(), "the times of sleeps add up");
    let signal = Saga::named(NAME).deadline(LONG).pivot_signal("wait", APPROVAL.within(LONG)).then(File);
    assert!(signal.build().is_err());
    let after = Saga::named(NAME).deadline(LONG).pivot(Seal).sleep("rest", LONG * 9).then(File);
    assert!(after.build().is_ok(), "past the pivot there is no deadline");
}

#[test]
fn one_signal_has_one_type() {
    let number: SignalName<u32> = SignalName::new("approval");
    let saga = Saga::named(NAME).signal("one", APPROVAL.within(LONG)).signal("two", number.within(LONG));
    assert!(
        matches!(saga.build().unwrap_err(), GraphError::TwoMessages { signal, .. } if signal == "approval")
    );
    let name: SignalName<Approval> = SignalName::new("Approval!");
    let saga = Saga::named(NAME).signal("one", name.within(LONG)).build();
    assert_eq!(saga.unwrap_err(), GraphError::BadName("Approval!".into()));
}

#[test]
fn the_hash_covers_the_signal_and_not_the_time() {
    let hash = |signal: SignalName<Approval>, time| {
        let saga = Saga::named(NAME).then(Pack).signal("wait", signal.within(time)).build().unwrap();
        saga.graph().hash.clone()
    };
    assert_eq!(hash(APPROVAL, LONG), "g1:d4c8337cfe2ba085");
    assert_eq!(hash(APPROVAL, LONG), hash(APPROVAL.only_new(), LONG / 2));
    assert_ne!(hash(APPROVAL, LONG), hash(SignalName::new("consent"), LONG));
    let sleep = Saga::named(NAME).then(Pack).sleep("wait", LONG).build().unwrap();
    assert_ne!(hash(APPROVAL, LONG), sleep.graph().hash);
    assert_eq!(sleep.graph().hash, "g1:73f14159a17c358c");
}

#[test]
fn the_graph_says_what_a_step_waits_for() {
    let saga = approved();
    let node = &saga.graph().steps[1];
    assert_eq!((node.kind, node.signal()), (StepKind::Signal, Some("approval")));
    let wait = node.wait.as_ref().unwrap();
    assert_eq!(wait.longest, Some(LONG));
    assert_eq!(wait.message_schema.as_ref().unwrap()["properties"]["by"]["type"], "string");
    let stored: engine::Graph = serde_json::from_value(serde_json::to_value(saga.graph()).unwrap()).unwrap();
    assert_eq!(&stored, saga.graph());
    let mut saga = approved();
    let refused = saga.set_policy("await-approval", engine::Direction::Action, engine::RetryPolicy::CALL);
    assert_eq!(
        refused.unwrap_err(),
        "step `await-approval` of saga `approved` waits, and is not tried again"
    );
}
