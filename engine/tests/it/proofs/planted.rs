//! Steps with a planted bug each: the proof finds it, as one violation that names the case.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use engine::{
    Batch, CallError, CallStep, Definition, ForwardOnly, Item, Outcome, Outcomes, Saga, SagaId, SagaName,
    Status, StepError, TransactionStep, Tx, UndoBatch, UndoCall, UndoItem, UndoOutcome, UndoOutcomes,
    UndoTransaction,
    testing::{Case, DisabledGuard, Kind, Proof, Report, Run, Struck, Violation},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::it::fixtures::{self, QUICK};

/// What compensated sagas leave behind.
pub(super) const LEFT: &str =
    "select step, sum(change) as change from effect group by step having sum(change) <> 0";

const RESERVATION: SagaName<Guests> = SagaName::new("reservation");

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct Guests {
    pub(super) count: u32,
}

/// What is wrong with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    DoesOnlyTheFirst,
    GivesUpWithTheFirstNo,
    UndoesOnlyTheFirst,
    UndoesNothing,
}

/// Reserves a table, unless there are too many guests.
pub(super) struct Reserve(pub(super) Bug);

impl TransactionStep for Reserve {
    const NAME: &'static str = "reserve";
    const RETRY: engine::RetryPolicy = QUICK;
    type Input = Guests;
    type Output = u32;
    type Undo = Self;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Guests>) -> Result<Outcomes<u32>, StepError> {
        let outcomes = batch.decide(|item| match item.input.count {
            0..=12 => Outcome::Done(item.input.count),
            _ => Outcome::fail("too-many", "there is no table of that size"),
        });
        let is_done = |outcome: &Outcome<u32>| matches!(outcome, Outcome::Done(_));
        let mut done: Vec<_> = batch
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| is_done(outcome))
            .map(|(item, _)| item.saga_id.0)
            .collect();
        match self.0 {
            Bug::DoesOnlyTheFirst => done.truncate(1),
            Bug::GivesUpWithTheFirstNo => {
                done.truncate(outcomes.iter().take_while(|outcome| is_done(outcome)).count());
            }
            Bug::None | Bug::UndoesOnlyTheFirst | Bug::UndoesNothing => {}
        }
        fixtures::record_effect(tx, done, "reserve", 1).await?;
        Ok(outcomes)
    }
}

impl UndoTransaction<Reserve> for Reserve {
    const RETRY: engine::RetryPolicy = QUICK;

    async fn undo(
        step: &Reserve,
        tx: &mut Tx<'_>,
        batch: &UndoBatch<Guests, u32>,
    ) -> Result<UndoOutcomes, StepError> {
        let undone = match step.0 {
            Bug::UndoesOnlyTheFirst => 1,
            Bug::UndoesNothing => 0,
            Bug::None | Bug::DoesOnlyTheFirst | Bug::GivesUpWithTheFirstNo => batch.len(),
        };
        let ids = batch.iter().take(undone).map(|item| item.saga_id.0).collect();
        fixtures::record_effect(tx, ids, "reserve", -1).await?;
        Ok(batch.decide(|_| UndoOutcome::Done))
    }
}

/// Confirms the reservation.
pub(super) struct Confirm;

impl TransactionStep for Confirm {
    const NAME: &'static str = "confirm";
    const RETRY: engine::RetryPolicy = QUICK;
    type Input = u32;
    type Output = ();
    type Undo = ForwardOnly;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<u32>) -> Result<Outcomes<()>, StepError> {
        fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), "confirm", 1).await?;
        Ok(batch.decide(|_| Outcome::Done(())))
    }
}

fn reservation(bug: Bug) -> impl Fn() -> Vec<Definition> + Send + Sync + 'static {
    move || vec![Saga::named(RESERVATION).then(Reserve(bug)).pivot(Confirm).build().unwrap()]
}

/// A proof with a fresh database for each case.
fn proof(bug: Bug) -> Proof {
    Proof::of(RESERVATION.name(), fixtures::database, reservation(bug), || {
        RESERVATION.with(&Guests { count: 4 })
    })
    .unchanged(LEFT)
}

/// Whether the rows of a saga are what its history says.
async fn is_recorded(run: Run) -> Result<(), String> {
    for step in ["reserve", "confirm"] {
        let rows: i64 = sqlx::query_scalar(
            "select coalesce(sum(change), 0)::bigint from effect where saga_id = $1 and step = $2",
        )
        .bind(run.saga_id.0)
        .bind(step)
        .fetch_one(&run.pool)
        .await
        .map_err(|error| error.to_string())?;
        if rows != run.effects_of(step) {
            return Err(format!("`{step}` is in the history, but not in the database"));
        }
    }
    Ok(())
}

/// The one violation of a report.
#[track_caller]
pub(super) fn only(report: &Report) -> &Violation {
    let [violation] = report.violations.as_slice() else { panic!("{report}") };
    violation
}

fn case(step: &str, kind: Kind, struck: Struck) -> Case {
    Case { step: step.into(), kind, struck }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_without_a_bug_have_no_violation() {
    let report = proof(Bug::None).check(is_recorded).run().await.unwrap();
    assert!(report.violations.is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_that_handles_only_the_first_of_a_batch_is_one_violation() {
    let report = proof(Bug::UndoesOnlyTheFirst).run().await.unwrap();
    let violation = only(&report);
    // The first case in which sagas that have reserved go back.
    assert_eq!(violation.case, case("reserve", Kind::UndoCrashesBeforeCommit, Struck::All), "{report}");
    assert_eq!(violation.what, format!("compensated, but `{LEFT}` is not as before"));
    let details = violation.details.as_deref().unwrap_or_default();
    assert!(details.starts_with(r#"+ {"step": "reserve", "change": "#), "{report}");
    assert!(violation.also_in.iter().all(|case| case.struck == Struck::All), "{report}");

    let alone = proof(Bug::UndoesOnlyTheFirst).batch(1).run().await.unwrap();
    assert!(alone.violations.is_empty(), "one saga alone does not show it: {alone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_that_handles_only_the_first_of_a_batch_is_one_violation() {
    let report = proof(Bug::DoesOnlyTheFirst).check(is_recorded).run().await.unwrap();
    let found = report.violations.iter().find(|violation| violation.what.contains("not in the database"));
    assert_eq!(found.map(|violation| violation.case.kind), Some(Kind::Nothing), "{report}");
    // Its undo takes back what was not there: the same bug, seen otherwise.
    assert!(report.violations.len() <= 2, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_that_stops_at_the_first_no_of_a_batch_is_one_violation() {
    let report = proof(Bug::GivesUpWithTheFirstNo)
        .says_no("reserve", || RESERVATION.with(&Guests { count: 13 }))
        .check(is_recorded)
        .run()
        .await
        .unwrap();
    let violation = only(&report);
    assert_eq!(violation.case, case("reserve", Kind::ActionSaysNo, Struck::One), "{report}");
    assert!(violation.what.contains("not in the database"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_that_leaves_something_is_one_violation_and_does_not_mislead_the_next_case() {
    let report = proof(Bug::UndoesNothing).run().await.unwrap();
    assert_eq!(only(&report).details.as_deref(), Some(r#"+ {"step": "reserve", "change": 3}"#));
    // The same in a database that all cases share: each case is compared with what was there before it.
    let (_database, pool) = fixtures::database().await;
    let start = || RESERVATION.with(&Guests { count: 4 });
    let each = "select saga_id from effect group by saga_id, step having sum(change) <> 0";
    let shared = Proof::of(RESERVATION.name(), pool, reservation(Bug::None), start).unchanged(each).run();
    assert!(shared.await.unwrap().violations.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_skips_undos_is_one_violation() {
    let report = proof(Bug::None).without(DisabledGuard::Undo).run().await.unwrap();
    // Skipped undos have no fault either.
    let left =
        report.violations.iter().filter(|violation| violation.what.contains("is not as before")).count();
    assert_eq!(left, 1, "{report}");
}

/// A service that takes orders, each key once.
#[derive(Clone, Default)]
struct Kitchen {
    orders: Arc<Mutex<HashMap<String, SagaId>>>,
}

impl Kitchen {
    fn orders_of(&self, saga_id: SagaId) -> usize {
        self.orders.lock().unwrap().values().filter(|owner| **owner == saga_id).count()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallBug {
    None,
    NeedsItsOutput,
    MakesItsOwnKey,
}

struct Cook(CallBug, Kitchen);

impl CallStep for Cook {
    const NAME: &'static str = "cook";
    const RETRY: engine::RetryPolicy = QUICK;
    type Input = Guests;
    type Output = String;
    type Undo = Self;

    async fn call(&self, item: &Item<Guests>) -> Result<Outcome<String>, CallError> {
        let key = match self.0 {
            CallBug::MakesItsOwnKey => SagaId::generate().to_string(),
            CallBug::None | CallBug::NeedsItsOutput => item.idempotency_key.clone(),
        };
        self.1.orders.lock().unwrap().insert(key.clone(), item.saga_id);
        Ok(Outcome::Done(key))
    }
}

impl UndoCall<Cook> for Cook {
    const RETRY: engine::RetryPolicy = QUICK;

    async fn undo(step: &Cook, item: &UndoItem<Guests, Option<String>>) -> Result<UndoOutcome, CallError> {
        let key = match step.0 {
            CallBug::None => Some(&item.action_key),
            CallBug::NeedsItsOutput | CallBug::MakesItsOwnKey => item.output.as_ref(),
        };
        if let Some(key) = key {
            step.1.orders.lock().unwrap().remove(key);
        }
        Ok(UndoOutcome::Done)
    }
}

async fn proof_of_call(bug: CallBug, guard: Option<DisabledGuard>) -> Report {
    const DINNER: SagaName<Guests> = SagaName::new("dinner");
    let kitchen = Kitchen::default();
    let definitions = {
        let kitchen = kitchen.clone();
        move || {
            let cook = Cook(bug, kitchen.clone());
            vec![Saga::named(DINNER).then_call(cook).then(Reserve(Bug::None)).pivot(Confirm).build().unwrap()]
        }
    };
    let proof =
        Proof::of(DINNER.name(), fixtures::database, definitions, || DINNER.with(&Guests { count: 4 }));
    let proof = proof.check(move |run| {
        let orders = kitchen.orders_of(run.saga_id);
        let wanted = usize::from(run.final_status.status == Status::Completed);
        let found = (orders == wanted).then_some(()).ok_or_else(|| format!("{orders} orders, not {wanted}"));
        std::future::ready(found)
    });
    match guard {
        Some(guard) => proof.without(guard),
        None => proof,
    }
    .run()
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_a_bug_has_no_violation() {
    let report = proof_of_call(CallBug::None, None).await;
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.cases.contains(&case("cook", Kind::AnswerIsLost, Struck::All)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_that_does_nothing_without_an_output_is_one_violation() {
    let report = proof_of_call(CallBug::NeedsItsOutput, None).await;
    let violation = only(&report);
    assert_eq!(violation.case, case("cook", Kind::AnswerIsLost, Struck::All), "{report}");
    assert!(violation.also_in.is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_repeated_under_another_key_is_found_where_it_is_repeated() {
    let report = proof_of_call(CallBug::MakesItsOwnKey, None).await;
    let first = &report.violations[0];
    assert_eq!(first.case, case("cook", Kind::ActionCrashesBeforeCommit, Struck::All), "{report}");
    assert_eq!(first.what, "2 orders, not 1");
    // Without the answer the call can't be undone under a key that only it knew.
    assert!(report.violations.iter().all(|violation| violation.case.step == "cook"), "{report}");
    assert!(report.violations.len() <= 2, "{report}");

    let report = proof_of_call(CallBug::None, Some(DisabledGuard::IdempotencyKey)).await;
    assert_eq!(report.violations[0].case.kind, Kind::ActionCrashesBeforeCommit, "{report}");
    assert_eq!(report.violations[0].what, "2 orders, not 1");
}
