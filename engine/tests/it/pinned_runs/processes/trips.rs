//! The saga of these tests, in the versions that an old and a new build have of it.

use std::time::Duration;

use engine::{
    Batch, CallError, CallStep, Definition, ForwardOnly, Item, Outcome, Outcomes, Retry, RetryPolicy, Saga,
    SagaName, SignalName, StepError, TransactionStep, Tx, UndoBatch, UndoCall, UndoItem, UndoOutcome,
    UndoOutcomes, UndoTransaction,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use super::super::Version;
use crate::{it::fixtures::QUICK, support::WAIT_TIMEOUT};

/// Long enough for no test to reach it.
const LONG: Duration = Duration::from_hours(24);
/// A call may be in its middle for as long as a test needs.
const PATIENT: RetryPolicy = RetryPolicy { timeout: WAIT_TIMEOUT, ..QUICK };
pub(super) const WORD: SignalName<u8> = SignalName::new("word");

/// A saga whose graph is another in the new build.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) saga: &'static str,
    pub(super) old: Version,
    pub(super) new: Version,
}

impl Change {
    const fn new(saga: &'static str, old: Version, new: Version) -> Self {
        Self { saga, old, new }
    }

    pub(super) fn name(&self) -> SagaName<Trip> {
        SagaName::new(self.saga)
    }
}

/// Each change as it is deployed, and as it is rolled back.
pub(super) const CHANGES: [Change; 8] = [
    Change::new("step-removed", Version::First, Version::Removed),
    Change::new("call-added", Version::First, Version::Added),
    Change::new("steps-reordered", Version::First, Version::Reordered),
    Change::new("output-revised", Version::First, Version::Revised),
    Change::new("removal-rolled-back", Version::Removed, Version::First),
    Change::new("addition-rolled-back", Version::Added, Version::First),
    Change::new("order-rolled-back", Version::Reordered, Version::First),
    Change::new("revision-rolled-back", Version::Revised, Version::First),
];

/// Where a run stands when the old build goes, because of what happened to it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum Left {
    /// At its first step, which nobody has begun.
    Queued,
    /// At the call, which was put off and not made.
    Postponed,
    /// At the call, which may have been made.
    InDoubt,
    /// At the call, in the middle of which its process was killed.
    Vanished,
    /// On its way back from a call that was not made.
    Compensating,
    /// On its way back from a call that may have been made.
    CompensatingCall,
    /// On its way back, at the undo of the call, in the middle of which its process was killed.
    VanishedInUndo,
    /// Waiting for a time.
    Asleep,
    /// Waiting for a signal.
    AtSignal,
    /// Dead at the pivot, from where it may still go back: five processes in a row had vanished there.
    DeadAtPivot,
    /// Dead behind the pivot.
    DeadBehind,
    /// Dead at an undo.
    DeadInUndo,
}

impl Left {
    /// Whether a side of a step is broken until all is repaired.
    fn breaks(self, step: &str, change: i32) -> bool {
        match self {
            Self::DeadBehind => (step, change) == ("file", 1),
            Self::DeadInUndo => (step, change) == ("hotel", -1),
            Self::Queued
            | Self::Postponed
            | Self::InDoubt
            | Self::Vanished
            | Self::Compensating
            | Self::CompensatingCall
            | Self::VanishedInUndo
            | Self::Asleep
            | Self::AtSignal
            | Self::DeadAtPivot => false,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct Trip {
    pub(super) left: Left,
}

impl Trip {
    /// How long it waits where one waits that is left there.
    fn waits(&self, there: Left) -> Duration {
        if self.left == there { LONG } else { Duration::ZERO }
    }
}

/// What the steps write: to the database, which all processes share.
pub(super) async fn create_world(pool: &PgPool) {
    sqlx::raw_sql(
        "create table world (number bigint generated always as identity, saga_id uuid not null, \
             step text not null, change int not null, key text); \
         create table repaired ()",
    )
    .execute(pool)
    .await
    .unwrap();
}

async fn is_repaired(database: impl PgExecutor<'_>) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from repaired)").fetch_one(database).await
}

async fn act(
    tx: &mut Tx<'_>,
    runs: impl Iterator<Item = (Uuid, Left)>,
    step: &str,
    change: i32,
) -> Result<(), sqlx::Error> {
    let runs: Vec<_> = runs.collect();
    if runs.iter().any(|(_, left)| left.breaks(step, change)) {
        sqlx::query("select 1 / count(*) from repaired").execute(&mut **tx).await?;
    }
    sqlx::query("insert into world (saga_id, step, change) select id, $2, $3 from unnest($1::uuid[]) t (id)")
        .bind(runs.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(step)
        .bind(change)
        .execute(&mut **tx)
        .await
        .map(drop)
}

/// Tells a service, which remembers every call with its key.
async fn tell(pool: &PgPool, id: Uuid, step: &str, change: i32, key: &str) -> Result<(), sqlx::Error> {
    sqlx::query("insert into world (saga_id, step, change, key) values ($1, $2, $3, $4)")
        .bind(id)
        .bind(step)
        .bind(change)
        .bind(key)
        .execute(pool)
        .await
        .map(drop)
}

/// Defines a transaction step with an undo.
macro_rules! booking {
    ($step:ident, $name:literal, $output:ident($form:ty), $value:expr) => {
        struct $step;

        #[derive(Clone, Debug, Serialize, Deserialize)]
        struct $output($form);

        impl TransactionStep for $step {
            const NAME: &'static str = $name;
            const RETRY: RetryPolicy = QUICK;
            type Input = Trip;
            type Output = $output;
            type Undo = Self;

            async fn run(
                &self,
                tx: &mut Tx<'_>,
                batch: &Batch<Trip>,
            ) -> Result<Outcomes<$output>, StepError> {
                act(tx, batch.iter().map(|item| (item.saga_id.0, item.input.left)), $name, 1).await?;
                Ok(batch.decide(|_| Outcome::Done($output($value))))
            }
        }

        impl UndoTransaction<$step> for $step {
            const RETRY: RetryPolicy = QUICK;

            async fn undo(
                _: &$step,
                tx: &mut Tx<'_>,
                batch: &UndoBatch<Trip, $output>,
            ) -> Result<UndoOutcomes, StepError> {
                act(tx, batch.iter().map(|item| (item.saga_id.0, item.input.left)), $name, -1).await?;
                Ok(batch.decide(|_| UndoOutcome::Done))
            }
        }
    };
}

booking!(Flight, "flight", Flown(u8), 1);
booking!(FlightInWords, "flight", FlownInWords(String), "one".into());
booking!(Hotel, "hotel", Lodged(u8), 1);

struct Insure(PgPool);

impl CallStep for Insure {
    const NAME: &'static str = "insure";
    const RETRY: RetryPolicy = PATIENT;
    type Input = Trip;
    type Output = u16;
    type Undo = Self;

    async fn call(&self, item: &Item<Trip>) -> Result<Outcome<u16>, CallError> {
        tell(&self.0, item.saga_id.0, "insure", 1, &item.idempotency_key).await?;
        Ok(Outcome::Done(1))
    }
}

impl UndoCall<Insure> for Insure {
    const RETRY: RetryPolicy = PATIENT;

    async fn undo(step: &Insure, item: &UndoItem<Trip, Option<u16>>) -> Result<UndoOutcome, CallError> {
        tell(&step.0, item.saga_id.0, "insure", -1, &item.action_key).await?;
        Ok(UndoOutcome::Done)
    }
}

/// The call at which most runs are left.
struct Ask(PgPool);

impl CallStep for Ask {
    const NAME: &'static str = "ask";
    const RETRY: RetryPolicy = PATIENT;
    type Input = Trip;
    type Output = u32;
    type Undo = Self;

    async fn call(&self, item: &Item<Trip>) -> Result<Outcome<u32>, CallError> {
        let (left, breaks) = (item.input.left, !is_repaired(&self.0).await?);
        if breaks && matches!(left, Left::Postponed | Left::Compensating) {
            return Ok(Outcome::Retry(Retry::snooze(LONG, "the service is closed")));
        }
        tell(&self.0, item.saga_id.0, "ask", 1, &item.idempotency_key).await?;
        if breaks && left == Left::Vanished {
            std::future::pending::<()>().await;
        }
        if breaks && matches!(left, Left::InDoubt | Left::CompensatingCall) {
            return Ok(Outcome::Retry(Retry::message("there was no answer").after(LONG)));
        }
        Ok(Outcome::Done(1))
    }
}

impl UndoCall<Ask> for Ask {
    const RETRY: RetryPolicy = PATIENT;

    async fn undo(step: &Ask, item: &UndoItem<Trip, Option<u32>>) -> Result<UndoOutcome, CallError> {
        tell(&step.0, item.saga_id.0, "ask", -1, &item.action_key).await?;
        if item.input.left == Left::VanishedInUndo && !is_repaired(&step.0).await? {
            std::future::pending::<()>().await;
        }
        Ok(UndoOutcome::Done)
    }
}

/// What a step at or behind the pivot answers, if it is not done.
fn refusal<O>(step: &str, left: Left, is_repaired: bool) -> Option<Outcome<O>> {
    match (step, left) {
        ("seal", Left::VanishedInUndo | Left::DeadInUndo) => Some(Outcome::fail("no", "it can't be")),
        ("seal", Left::DeadAtPivot) if !is_repaired => {
            Some(Outcome::Retry(Retry::snooze(LONG, "there is no wax")))
        }
        _ => None,
    }
}

/// Defines a transaction step at or behind the pivot.
macro_rules! forward {
    ($step:ident, $name:literal, $output:ty) => {
        struct $step;

        impl TransactionStep for $step {
            const NAME: &'static str = $name;
            const RETRY: RetryPolicy = QUICK;
            type Input = Trip;
            type Output = $output;
            type Undo = ForwardOnly;

            async fn run(
                &self,
                tx: &mut Tx<'_>,
                batch: &Batch<Trip>,
            ) -> Result<Outcomes<$output>, StepError> {
                let is_repaired = is_repaired(&mut **tx).await?;
                let refused = |left| refusal::<$output>($name, left, is_repaired);
                let done = batch.iter().filter(|item| refused(item.input.left).is_none());
                act(tx, done.map(|item| (item.saga_id.0, item.input.left)), $name, 1).await?;
                Ok(batch.decide(|item| refused(item.input.left).unwrap_or(Outcome::Done(1))))
            }
        }
    };
}

forward!(Seal, "seal", i8);
forward!(File, "file", i16);

/// Whether a build writes and reads the output of the first step in another form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flights {
    InNumbers,
    InWords,
}

/// The definition that a build has of a saga, in this queue.
pub(super) fn definition(
    name: SagaName<Trip>,
    version: Version,
    flights: Flights,
    queue: &str,
    pool: &PgPool,
) -> Definition {
    /// The steps that all versions have in common.
    macro_rules! rest {
        ($trip:expr, $ask:expr) => {
            $trip
                .then_call($ask)
                .sleep_until("nap", |trip: &Trip, now| now + trip.waits(Left::Asleep))
                .signal_until("await-word", WORD, |trip: &Trip, now| now + trip.waits(Left::AtSignal))
                .pivot(Seal)
                .then(File)
                .build()
        };
    }
    let trip = Saga::named(name).queue(queue);
    let (ask, insure) = (Ask(pool.clone()), Insure(pool.clone()));
    let built = match (version, flights) {
        (Version::First, Flights::InNumbers) => rest!(trip.then(Flight).then(Hotel), ask),
        (Version::First, Flights::InWords) => rest!(trip.then(FlightInWords).then(Hotel), ask),
        (Version::Removed, _) => rest!(trip.then(Hotel), ask),
        (Version::Added, _) => rest!(trip.then(Flight).then_call(insure).then(Hotel), ask),
        (Version::Reordered, _) => rest!(trip.then(Hotel).then(Flight), ask),
        (Version::Revised, _) => rest!(trip.revision(1).then(FlightInWords).then(Hotel), ask),
    };
    built.unwrap()
}

/// The steps of a version that write something, in order.
pub(super) fn steps(version: Version) -> Vec<&'static str> {
    let booked: &[_] = match version {
        Version::First | Version::Revised => &["flight", "hotel"],
        Version::Removed => &["hotel"],
        Version::Added => &["flight", "insure", "hotel"],
        Version::Reordered => &["hotel", "flight"],
    };
    [booked, &["ask", "seal", "file"]].concat()
}
