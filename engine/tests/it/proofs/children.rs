//! Proofs of sagas whose children fail, die, are given up, and end without their parent hearing of it.

use engine::{
    Batch, Definition, ForwardOnly, NothingToUndo, Outcome, Outcomes, RetryPolicy, Saga, SagaName, StepError,
    TransactionStep, Tx, UndoBatch, UndoOutcome, UndoOutcomes, UndoTransaction,
    testing::{Databases, Kind, Proof},
};

use super::planted::{Guests, LEFT, only};
use crate::it::fixtures::{self, QUICK};

pub(super) const DISH: SagaName<Guests> = SagaName::new("dish");
const BILL: SagaName<Guests> = SagaName::new("bill");
const MEAL: SagaName<Guests> = SagaName::new("meal");

/// A step that writes a row under its name, and whose undo takes it back.
macro_rules! row {
    ($step:ident, $name:literal, $undo:ty) => {
        struct $step;

        impl TransactionStep for $step {
            const NAME: &'static str = $name;
            const RETRY: RetryPolicy = QUICK;
            type Input = Guests;
            type Output = ();
            type Undo = $undo;

            async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Guests>) -> Result<Outcomes<()>, StepError> {
                fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), $name, 1)
                    .await?;
                Ok(batch.decide(|_| Outcome::Done(())))
            }
        }

        impl UndoTransaction<$step> for $step {
            const RETRY: RetryPolicy = QUICK;

            async fn undo(
                _: &$step,
                tx: &mut Tx<'_>,
                batch: &UndoBatch<Guests, ()>,
            ) -> Result<UndoOutcomes, StepError> {
                fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), $name, -1)
                    .await?;
                Ok(batch.decide(|_| UndoOutcome::Done))
            }
        }
    };
}

row!(Chop, "chop", Self);
row!(Fry, "fry", Self);
row!(Season, "season", NothingToUndo);
row!(Serve, "serve", ForwardOnly);
row!(Print, "print", ForwardOnly);
row!(Collect, "collect", ForwardOnly);

pub(super) fn dish() -> Definition {
    Saga::named(DISH).then(Chop).then(Fry).build().unwrap()
}

fn bill() -> Definition {
    Saga::named(BILL).pivot(Print).then(Collect).build().unwrap()
}

/// Two dishes before the pivot, the bill behind it.
fn meal() -> Vec<Definition> {
    let dishes = (DISH.child(Guests::clone), DISH.child(Guests::clone));
    let meal =
        Saga::named(MEAL).parallel("cook", dishes).pivot(Serve).child("pay", BILL.child(Guests::clone));
    vec![meal.build().unwrap(), dish(), bill()]
}

fn proof(
    databases: impl Databases,
    definitions: impl Fn() -> Vec<Definition> + Send + Sync + 'static,
) -> Proof {
    Proof::of(MEAL.name(), databases, definitions, || MEAL.with(&Guests { count: 4 })).unchanged(LEFT)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_that_fail_die_are_given_up_and_end_unheard_leave_nothing_behind() {
    let (_database, pool) = fixtures::database().await;
    let report = proof(pool, meal).run().await.unwrap();
    assert!(report.violations.is_empty(), "{report}");
    let kinds = |step: &str| -> Vec<Kind> {
        report.cases.iter().filter(|case| case.step == step).map(|case| case.kind).collect()
    };
    let faults = [
        Kind::ActionCrashesBeforeCommit,
        Kind::ActionCrashesAfterCommit,
        Kind::CancelledThere,
        Kind::ChildFails,
        Kind::ChildDies,
        Kind::ChildIsDiscarded,
        Kind::ChildEndsUnheard,
    ];
    let undos = [Kind::UndoCrashesBeforeCommit, Kind::UndoCrashesAfterCommit];
    assert_eq!(kinds("cook"), [faults.as_slice(), undos.as_slice()].concat());
    assert_eq!(kinds("pay"), faults);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_not_undone_is_one_violation() {
    let forgetful = || {
        let dish = Saga::named(DISH).then(Season).then(Chop).build().unwrap();
        let dishes = (DISH.child(Guests::clone), DISH.child(Guests::clone));
        vec![Saga::named(MEAL).parallel("cook", dishes).pivot(Serve).build().unwrap(), dish]
    };
    let report = proof(fixtures::database, forgetful).run().await.unwrap();
    let violation = only(&report);
    assert_eq!(violation.case.step, "cook", "{report}");
    assert!(violation.details.as_deref().is_some_and(|details| details.contains("season")), "{report}");
}
