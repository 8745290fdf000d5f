//! A proof of a saga with every kind of step that the others don't have: an entry step, choices with waits in their
//! arms, settled children, a signal that is the pivot, and calls behind it.

use std::time::Duration;

use engine::{
    Batch, CallError, CallStep, Definition, ForwardOnly, Item, NothingToUndo, Outcome, Outcomes, RetryPolicy,
    Saga, SagaName, SignalName, Signalled, Status, StepError, TransactionStep, Tx,
    testing::{Kind, Proof},
};

use super::{
    children::{DISH, dish},
    planted::{Bug, Guests, LEFT, Reserve, only},
};
use crate::it::{
    fixtures::{self, QUICK},
    waits::{APPROVAL, Approval, LONG},
};

const PARTY: SagaName<Guests> = SagaName::new("party");
const START: SignalName<Approval> = SignalName::new("start");

/// Cooks until the guests come. It fails if the host did not start the party in time.
struct Welcome;

impl TransactionStep for Welcome {
    const NAME: &'static str = "welcome";
    const RETRY: RetryPolicy = QUICK;
    type Input = Signalled<Approval>;
    type Output = bool;
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<bool>, StepError> {
        Ok(batch.decide(|item| Outcome::Done(item.input.clone().received().is_some())))
    }
}

/// A deposit for many guests.
struct Deposit;

impl TransactionStep for Deposit {
    const NAME: &'static str = "deposit";
    const RETRY: RetryPolicy = QUICK;
    type Input = (Guests, Signalled<Approval>);
    type Output = u32;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<u32>, StepError> {
        Ok(batch.decide(|item| match &item.input.1 {
            Signalled::Received(_) => Outcome::Done(item.input.0.count),
            Signalled::TimedOut => Outcome::fail("no-deposit", "the deposit did not come in time"),
        }))
    }
}

struct Thank;

impl CallStep for Thank {
    const NAME: &'static str = "thank";
    const RETRY: RetryPolicy = QUICK;
    type Input = Guests;
    type Output = ();
    type Undo = ForwardOnly;

    async fn call(&self, _: &Item<Guests>) -> Result<Outcome<()>, CallError> {
        Ok(Outcome::Done(()))
    }
}

fn party() -> Vec<Definition> {
    let party = Saga::named(PARTY)
        .entry(Reserve(Bug::None))
        .when(
            "is-large",
            |guests: &Guests| guests.count > 6,
            |large| large.signal("await-deposit", APPROVAL.within(LONG)).then(Deposit),
        )
        .for_each("cook", DISH.each(|guests: &Guests| vec![guests.clone(); 3]).at_most(2).settled())
        .sleep("rest", Duration::from_hours(1))
        .pivot_signal("await-start", START.within(LONG))
        .then(Welcome)
        .then_call(Thank);
    vec![party.build().unwrap(), dish()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_of_choices_settled_children_and_a_signal_as_the_pivot_finds_no_violation() {
    let (_database, pool) = fixtures::database().await;
    let report = Proof::of(PARTY.name(), pool, party, || PARTY.with(&Guests { count: 8 }))
        .also(|| PARTY.with(&Guests { count: 2 }))
        .says_no("reserve", || PARTY.with(&Guests { count: 13 }))
        .signal(|| APPROVAL.with(&Approval::by("ada")))
        .signal(|| START.with(&Approval::by("ada")))
        .unchanged(LEFT)
        .check(|run| async move {
            let is_late = run.is_struck
                && run.case.step == "await-deposit"
                && matches!(run.case.kind, Kind::SignalTimesOut | Kind::SignalComesLate);
            let has_failed = run.final_status.status == Status::Compensated;
            (!is_late || has_failed).then_some(()).ok_or_else(|| "it goes on without a deposit".into())
        })
        .run()
        .await
        .unwrap();
    assert!(report.violations.is_empty(), "{report}");
    let of = |step: &str, kind: Kind| {
        report.cases.iter().filter(|case| (case.step.as_str(), case.kind) == (step, kind)).count()
    };
    assert_eq!(of("reserve", Kind::ActionSaysNo), 2, "all of a batch, and one in its midst");
    assert_eq!(of("await-start", Kind::SignalRacesTimeOut), 1);
    assert_eq!(of("cook", Kind::ChildIsDiscarded), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_names_the_signal_whose_message_it_does_not_have() {
    const WAITS: SagaName<Guests> = SagaName::new("waits");
    let waits =
        || vec![Saga::named(WAITS).signal("await-start", START.within(LONG)).pivot(Welcome).build().unwrap()];
    let report = Proof::of(WAITS.name(), fixtures::database, waits, || WAITS.with(&Guests { count: 2 }))
        .run()
        .await
        .unwrap();
    assert_eq!(only(&report).what, "`await-start` waits for `start`: add its message with `signal`");
}

/// Writes down who started the party, but only for the first saga whose signal has come.
struct NoteHost;

impl TransactionStep for NoteHost {
    const NAME: &'static str = "note-host";
    const RETRY: RetryPolicy = QUICK;
    type Input = Signalled<Approval>;
    type Output = ();
    type Undo = ForwardOnly;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<()>, StepError> {
        let came = batch.iter().filter(|item| item.input.clone().received().is_some());
        let ids = came.take(1).map(|item| item.saga_id.0).collect();
        fixtures::record_effect(tx, ids, "note-host", 1).await?;
        Ok(batch.decide(|_| Outcome::Done(())))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_takes_only_the_first_signal_of_a_batch_is_one_violation() {
    const NOTES: SagaName<Guests> = SagaName::new("notes");
    let taking = || {
        let saga = Saga::named(NOTES).signal("await-start", START.within(LONG)).pivot(NoteHost);
        vec![saga.build().unwrap()]
    };
    let report = Proof::of(NOTES.name(), fixtures::database, taking, || NOTES.with(&Guests { count: 2 }))
        .signal(|| START.with(&Approval::by("ada")))
        .only(|case| case.step == "await-start")
        .check(|run| async move {
            let noted: i64 = sqlx::query_scalar("select count(*) from effect where saga_id = $1")
                .bind(run.saga_id.0)
                .fetch_one(&run.pool)
                .await
                .map_err(|error| error.to_string())?;
            let times_out =
                run.is_struck && matches!(run.case.kind, Kind::SignalTimesOut | Kind::SignalComesLate);
            let wanted = i64::from(run.final_status.status == Status::Completed && !times_out);
            (noted >= wanted).then_some(()).ok_or_else(|| "a signal was not noted".into())
        })
        .run()
        .await
        .unwrap();
    let violation = only(&report);
    assert_eq!((violation.case.kind, violation.what.as_str()), (Kind::Nothing, "a signal was not noted"));
    let missing: Vec<_> = [Kind::SignalComesEarly, Kind::SignalComesTwice, Kind::SignalRacesTimeOut]
        .into_iter()
        .filter(|kind| !violation.also_in.iter().any(|case| case.kind == *kind))
        .collect();
    assert_eq!(missing, [], "{report}");
}
