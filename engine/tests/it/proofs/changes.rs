//! Proofs of sagas whose graph, or whose code, changes while they are in progress.

use engine::{
    Batch, Definition, ForwardOnly, NothingToUndo, Outcome, Outcomes, Saga, SagaName, StepError,
    TransactionStep, Tx,
    testing::{Databases, DisabledGuard, Kind, Proof},
};
use serde::{Deserialize, Serialize};

use super::planted::{LEFT, only};
use crate::it::{
    fixtures::{self, Pack, TestInput},
    waits::LONG,
};

const SHIP: SagaName<TestInput> = SagaName::new("ship");

/// A step that gives something of this type.
macro_rules! weighing {
    ($step:ident, $output:ty, $weighs:expr) => {
        struct $step;

        impl TransactionStep for $step {
            const NAME: &'static str = "weigh";
            type Input = TestInput;
            type Output = $output;
            type Undo = NothingToUndo;

            async fn run(
                &self,
                _: &mut Tx<'_>,
                batch: &Batch<TestInput>,
            ) -> Result<Outcomes<$output>, StepError> {
                Ok(batch.decide(|_| Outcome::Done($weighs)))
            }
        }
    };
}

macro_rules! loading {
    ($step:ident, $input:ty) => {
        struct $step;

        impl TransactionStep for $step {
            const NAME: &'static str = "load";
            type Input = $input;
            type Output = ();
            type Undo = ForwardOnly;

            async fn run(&self, _: &mut Tx<'_>, batch: &Batch<$input>) -> Result<Outcomes<()>, StepError> {
                Ok(batch.decide(|_| Outcome::Done(())))
            }
        }
    };
}

#[derive(Serialize, Deserialize)]
struct Weight {
    grams: u64,
}

weighing!(WeighInKilos, u32, 7);
weighing!(WeighInGrams, Weight, Weight { grams: 7000 });
loading!(LoadKilos, u32);
loading!(LoadGrams, Weight);

fn in_kilos() -> Vec<Definition> {
    let saga = Saga::named(SHIP).then(Pack).then(WeighInKilos).sleep("rest", LONG).pivot(LoadKilos);
    vec![saga.build().unwrap()]
}

/// The same steps, but `weigh` gives something that sagas in progress don't have.
fn in_grams() -> Vec<Definition> {
    let saga = Saga::named(SHIP).then(Pack).then(WeighInGrams).sleep("rest", LONG).pivot(LoadGrams);
    vec![saga.build().unwrap()]
}

fn in_grams_as_another_revision() -> Vec<Definition> {
    let saga =
        Saga::named(SHIP).revision(1).then(Pack).then(WeighInGrams).sleep("rest", LONG).pivot(LoadGrams);
    vec![saga.build().unwrap()]
}

/// Without the steps in the middle, and with another one behind.
fn at_once() -> Vec<Definition> {
    vec![Saga::named(SHIP).then(Pack).pivot(fixtures::Seal).then(fixtures::File).build().unwrap()]
}

fn proof(
    databases: impl Databases,
    newest: fn() -> Vec<Definition>,
    earlier: fn() -> Vec<Definition>,
) -> Proof {
    Proof::of(SHIP.name(), databases, newest, || SHIP.with(&TestInput::default()))
        .unchanged(LEFT)
        .earlier(earlier)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sagas_go_on_with_their_graph_and_a_process_that_does_not_know_it_leaves_them_alone() {
    for newest in [at_once, in_grams_as_another_revision] {
        let (_database, pool) = fixtures::database().await;
        let report = proof(pool, newest, in_kilos).run().await.unwrap();
        assert!(report.violations.is_empty(), "{report}");
        let at = |kind: Kind| -> Vec<&str> {
            let of_kind = report.cases.iter().filter(|case| case.kind == kind);
            of_kind.map(|case| case.step.as_str()).collect()
        };
        let steps = ["pack", "weigh", "rest", "load"];
        for kind in [Kind::GraphChanges, Kind::GraphChangesThenCancelled, Kind::GraphIsUnknown] {
            assert_eq!(at(kind), steps, "{kind:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_can_not_read_what_the_code_before_it_stored_is_one_violation() {
    let report = proof(fixtures::database, in_grams, in_kilos).run().await.unwrap();
    let violation = only(&report);
    assert_eq!((violation.case.step.as_str(), violation.case.kind), ("rest", Kind::GraphChanges), "{report}");
    assert_eq!(violation.what, "ended dead at `load`, not completed");
    let also: Vec<_> = violation.also_in.iter().map(|case| (case.step.as_str(), case.kind)).collect();
    assert_eq!(also, [("load", Kind::GraphChanges)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undos_that_are_skipped_after_a_change_are_one_violation() {
    let report = proof(fixtures::database, at_once, in_kilos)
        .only(|case| case.kind == Kind::GraphChangesThenCancelled)
        .without(DisabledGuard::Undo)
        .run()
        .await
        .unwrap();
    let violation = only(&report);
    // The first step behind one that has something to undo.
    assert_eq!(
        (violation.case.step.as_str(), violation.case.kind),
        ("weigh", Kind::GraphChangesThenCancelled)
    );
    assert_eq!(violation.what, format!("compensated, but `{LEFT}` is not as before"));
}
