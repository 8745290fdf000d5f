//! Sagas that start others and wait for them: one child, several side by side, and one for each item.

mod builds;
mod compensates;
mod each;
mod ends;
mod entries;
mod hostile;
mod killed;
mod late;
mod pages;
mod results;
mod rounds;
mod versions;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use engine::{
    Batch, Definition, Engine, EngineBuilder, ForwardOnly, HistoryOutcome, Joined, NothingToUndo, Outcome,
    Outcomes, RetryPolicy, Saga, SagaId, SagaName, StepError, TransactionStep, Tx, UndoBatch, UndoOutcome,
    UndoOutcomes, UndoTransaction,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::fixtures::{self, QUICK, TestEngine};

/// What to book, and what goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Order {
    name: String,
    /// Whether the booking of this name says no.
    fails: Option<String>,
    /// Whether the step behind the children says no.
    fails_after: bool,
}

impl Order {
    fn of(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

const FLIGHT: SagaName<Order, Booked> = SagaName::new("book-flight");
const HOTEL: SagaName<Order, Booked> = SagaName::new("book-hotel");
const TRIP: SagaName<Order, String> = SagaName::new("trip");

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Booked {
    number: String,
}

/// Defines a step that books under its own name, and whose undo takes the booking back.
macro_rules! booking {
    ($step:ident, $name:literal) => {
        struct $step;

        impl TransactionStep for $step {
            const NAME: &'static str = $name;
            const RETRY: RetryPolicy = QUICK;
            type Input = Order;
            type Output = Booked;
            type Undo = Self;

            async fn run(
                &self,
                tx: &mut Tx<'_>,
                batch: &Batch<Order>,
            ) -> Result<Outcomes<Booked>, StepError> {
                let outcomes = batch.decide(|item| match item.input.fails.as_deref() {
                    Some($name) => Outcome::fail("sold-out", "there is none left"),
                    Some(_) | None => {
                        Outcome::Done(Booked { number: format!("{} {}", $name, item.input.name) })
                    }
                });
                let done =
                    batch.iter().zip(&outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Done(_)));
                let done = done.map(|(item, _)| item.saga_id.0).collect();
                fixtures::record_effect(tx, done, $name, 1).await?;
                Ok(outcomes)
            }
        }

        impl UndoTransaction<$step> for $step {
            const RETRY: RetryPolicy = QUICK;

            async fn undo(
                _: &$step,
                tx: &mut Tx<'_>,
                batch: &UndoBatch<Order, Booked>,
            ) -> Result<UndoOutcomes, StepError> {
                fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), $name, -1)
                    .await?;
                Ok(batch.decide(|_| UndoOutcome::Done))
            }
        }
    };
}

booking!(Flight, "flight");
booking!(Hotel, "hotel");
booking!(Plan, "plan");

fn book_flight() -> Definition {
    Saga::named(FLIGHT).then(Flight).returns_output().build().unwrap()
}

fn book_hotel() -> Definition {
    Saga::named(HOTEL).then(Hotel).returns_output().build().unwrap()
}

/// Says what was booked, or no.
struct Confirm;

impl TransactionStep for Confirm {
    const NAME: &'static str = "confirm";
    const RETRY: RetryPolicy = QUICK;
    type Input = (Order, Joined<(Booked, Booked)>);
    type Output = String;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<String>, StepError> {
        Ok(batch.decide(|item| {
            let (order, Joined((flight, hotel))) = &item.input;
            if order.fails_after {
                return Outcome::fail("no", "not confirmed");
            }
            Outcome::Done(format!("{} and {}", flight.number, hotel.number))
        }))
    }
}

/// Plans, books a flight and a hotel side by side, and confirms.
fn trip() -> Definition {
    Saga::named(TRIP)
        .then(Plan)
        .parallel("book", (FLIGHT.child(Order::clone), HOTEL.child(Order::clone)))
        .then(Confirm)
        .returns_output()
        .build()
        .unwrap()
}

fn trips(pool: &PgPool) -> EngineBuilder {
    Engine::builder(pool.clone()).register(trip()).register(book_flight()).register(book_hotel())
}

/// The steps of a saga's history, with what happened to them if it is not just done, and undos with a minus.
async fn story(engine: &Engine, saga_id: SagaId) -> Vec<String> {
    let history = engine.history(saga_id).await.unwrap().unwrap();
    history
        .into_iter()
        .map(|entry| {
            let step = match entry.direction {
                engine::Direction::Action => entry.step,
                engine::Direction::Undo => format!("-{}", entry.step),
            };
            match entry.outcome {
                HistoryOutcome::Done => step,
                other => format!("{step} {}", other.name()),
            }
        })
        .collect()
}

/// The children of a saga: definition, status and position, in the order of their positions.
async fn children_of(pool: &PgPool, parent: SagaId) -> Vec<(String, String, i32)> {
    sqlx::query_as(
        "select definition, status, parent_position from engine.saga where parent_id = $1 \
         order by parent_round, parent_position",
    )
    .bind(parent.0)
    .fetch_all(pool)
    .await
    .unwrap()
}

/// What all sagas of a database have left behind.
async fn left_behind(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select coalesce(sum(change), 0) from effect").fetch_one(pool).await.unwrap()
}

async fn verified(engine: &Engine) {
    assert_eq!(engine.verify_histories(500).await.unwrap(), []);
}

/// Waits until this parent waits for its children.
async fn waits_for_children(pool: &PgPool, parent: SagaId) {
    let waits = format!(
        "select waits_for = 'children' and due_at is null and lease_owner is null from engine.saga \
             where id = '{parent}'"
    );
    fixtures::holds(pool, &waits).await;
}

/// Says no if it is asked to.
struct Grumble;

impl TransactionStep for Grumble {
    const NAME: &'static str = "grumble";
    const RETRY: RetryPolicy = QUICK;
    type Input = Order;
    type Output = bool;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Order>) -> Result<Outcomes<bool>, StepError> {
        Ok(batch.decide(|item| match item.input.fails.as_deref() {
            Some("grumble") => Outcome::fail("no", "it grumbles"),
            Some(_) | None => Outcome::Done(true),
        }))
    }
}

/// Only goes forward.
struct Seal;

impl TransactionStep for Seal {
    const NAME: &'static str = "seal";
    type Input = Order;
    type Output = u8;
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Order>) -> Result<Outcomes<u8>, StepError> {
        Ok(batch.decide(|_| Outcome::Done(1)))
    }
}

/// Says no until it is told otherwise.
struct Fussy(Arc<AtomicBool>);

impl TransactionStep for Fussy {
    const NAME: &'static str = "fussy";
    const RETRY: RetryPolicy = QUICK;
    type Input = Order;
    type Output = u8;
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Order>) -> Result<Outcomes<u8>, StepError> {
        let outcomes = batch.decide(|item| {
            let refuses = item.input.name == "fussy" && !self.0.load(Ordering::Relaxed);
            if refuses { Outcome::fail("no", "it is fussy") } else { Outcome::Done(1) }
        });
        let done = batch.iter().zip(&outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Done(_)));
        fixtures::record_effect(tx, done.map(|(item, _)| item.saga_id.0).collect(), "fussy", 1).await?;
        Ok(outcomes)
    }
}
