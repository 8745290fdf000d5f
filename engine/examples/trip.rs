//! Books a trip: a flight, a room and a car side by side, each a saga of its own, and then the confirmation, after which
//! nothing is undone. One traveller gets everything, one finds no room, so that the flight and the car are undone, and one
//! cancels.
//!
//! ```sh
//! cargo run -p sagaline-engine --example trip
//! ```
//!
//! It starts a PostgreSQL of its own, unless `DATABASE_URL` names a scratch database.
#![expect(clippy::print_stdout, reason = "an example prints what it does")]

#[path = "support/scratch.rs"]
mod scratch;

use std::time::Duration;

use engine::{
    Batch, CallError, CallStep, Engine, ForwardOnly, HistoryEntry, Item, Joined, Outcome, Outcomes, Page,
    Saga, SagaFilter, SagaId, SagaName, StepError, TransactionStep, Tx, UndoBatch, UndoCall, UndoItem,
    UndoOutcome, UndoOutcomes, UndoTransaction,
    schemars::{self, JsonSchema},
    sqlx::{self, PgPool, postgres::PgConnectOptions},
    tokio_util::sync::CancellationToken,
};
use scratch::Scratch;
use serde::{Deserialize, Serialize};

const BOOK_TRIP: SagaName<Trip, String> = SagaName::new("book-trip");
const FLIGHT: SagaName<Trip, Ticket> = SagaName::new("flight");
const HOTEL: SagaName<Trip, Room> = SagaName::new("hotel");
const CAR: SagaName<Trip, Car> = SagaName::new("car");

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Trip {
    traveller: String,
    nights: i32,
}

#[derive(Serialize, Deserialize)]
struct Ticket {
    number: String,
}

#[derive(Serialize, Deserialize)]
struct Room {
    nights: i32,
}

#[derive(Serialize, Deserialize)]
struct Car {
    plate: String,
}

/// Books a seat with an airline: a call, so at least once, always with the same key.
struct BookFlight;

impl CallStep for BookFlight {
    const NAME: &'static str = "book-flight";
    type Input = Trip;
    type Output = Ticket;
    type Undo = Self;

    async fn call(&self, item: &Item<Trip>) -> Result<Outcome<Ticket>, CallError> {
        println!("  airline: a seat for {} (key {})", item.input.traveller, item.idempotency_key);
        Ok(Outcome::Done(Ticket { number: format!("SEAT-{}", item.input.traveller.to_uppercase()) }))
    }
}

impl UndoCall<BookFlight> for BookFlight {
    async fn undo(_: &BookFlight, item: &UndoItem<Trip, Option<Ticket>>) -> Result<UndoOutcome, CallError> {
        let ticket =
            item.output.as_ref().map_or("a seat that may be booked", |ticket| ticket.number.as_str());
        println!("  airline: {ticket} is cancelled, because {}", item.cause.sentence());
        Ok(UndoOutcome::Done)
    }
}

/// Rents a car, also by a call.
struct RentCar;

impl CallStep for RentCar {
    const NAME: &'static str = "rent-car";
    type Input = Trip;
    type Output = Car;
    type Undo = Self;

    async fn call(&self, item: &Item<Trip>) -> Result<Outcome<Car>, CallError> {
        println!("  rental: a car for {}", item.input.traveller);
        Ok(Outcome::Done(Car { plate: format!("CAR-{}", item.input.traveller.to_uppercase()) }))
    }
}

impl UndoCall<RentCar> for RentCar {
    async fn undo(_: &RentCar, item: &UndoItem<Trip, Option<Car>>) -> Result<UndoOutcome, CallError> {
        println!("  rental: the car for {} is given back", item.input.traveller);
        Ok(UndoOutcome::Done)
    }
}

/// Reserves a room in our own table, for all travellers of the batch at once.
struct ReserveRoom;

impl TransactionStep for ReserveRoom {
    const NAME: &'static str = "reserve-room";
    type Input = Trip;
    type Output = Room;
    type Undo = Self;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Trip>) -> Result<Outcomes<Room>, StepError> {
        let before: i32 =
            sqlx::query_scalar("select nights_free from trip_hotel for update").fetch_one(&mut **tx).await?;
        let mut free = before;
        let outcomes = batch.decide(|item| {
            if item.input.nights > free {
                return Outcome::fail("hotel-full", format!("only {free} nights are free"));
            }
            free -= item.input.nights;
            Outcome::Done(Room { nights: item.input.nights })
        });
        // Who gets a no must leave nothing behind, not even a row that is written as it was.
        if free != before {
            sqlx::query("update trip_hotel set nights_free = $1").bind(free).execute(&mut **tx).await?;
        }
        Ok(outcomes)
    }
}

impl UndoTransaction<ReserveRoom> for ReserveRoom {
    async fn undo(
        _: &ReserveRoom,
        tx: &mut Tx<'_>,
        batch: &UndoBatch<Trip, Room>,
    ) -> Result<UndoOutcomes, StepError> {
        let nights: i32 = batch.iter().map(|item| item.output.nights).sum();
        sqlx::query("update trip_hotel set nights_free = nights_free + $1")
            .bind(nights)
            .execute(&mut **tx)
            .await?;
        Ok(batch.decide(|_| UndoOutcome::Done))
    }
}

/// The pivot: after it, nothing is undone.
struct Confirm;

impl TransactionStep for Confirm {
    const NAME: &'static str = "confirm";
    type Input = (Trip, Joined<(Ticket, Room, Car)>);
    type Output = String;
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<String>, StepError> {
        Ok(batch.decide(|item| {
            let (trip, Joined((ticket, room, car))) = &item.input;
            Outcome::Done(format!(
                "{} flies with {}, stays {} nights and drives {}",
                trip.traveller, ticket.number, room.nights, car.plate
            ))
        }))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let scratch = Scratch::open().await?;
    let options: PgConnectOptions = scratch.url.parse()?;
    let pool = PgPool::connect_with(engine::tuned(options)).await?;
    engine::migrate(&pool).await?;
    sqlx::query("create table if not exists trip_hotel (nights_free int not null)").execute(&pool).await?;
    sqlx::query("delete from trip_hotel").execute(&pool).await?;
    sqlx::query("insert into trip_hotel values (7)").execute(&pool).await?;

    let trip = Saga::named(BOOK_TRIP)
        .parallel("book", (FLIGHT.child(Trip::clone), HOTEL.child(Trip::clone), CAR.child(Trip::clone)))
        .pivot(Confirm)
        .returns_output()
        .build()?;
    let engine = Engine::builder(pool)
        .register(trip)
        .register(Saga::named(FLIGHT).then_call(BookFlight).returns_output().build()?)
        .register(Saga::named(HOTEL).then(ReserveRoom).returns_output().build()?)
        .register(Saga::named(CAR).then_call(RentCar).returns_output().build()?)
        .build()?;

    // Started before any worker runs, and cancelled at once: nothing was done, so nothing is undone.
    let cancelled = engine.start(BOOK_TRIP.with(&Trip { traveller: "cy".into(), nights: 1 })).await?;
    engine.cancel(cancelled.saga_id, "cy", "changed my mind").await?;

    let stop = CancellationToken::new();
    let worker = tokio::spawn({
        let (engine, stop, mut feed) = (engine.clone(), stop.clone(), engine.feed("default", 64));
        async move { engine.run(&mut feed, stop).await }
    });
    for (traveller, nights) in [("ada", 5), ("bob", 4)] {
        let trip = Trip { traveller: traveller.into(), nights };
        let (started, ending) = engine.start_and_wait(BOOK_TRIP.with(&trip), Duration::from_secs(20)).await?;
        print_saga(&engine, traveller, started.saga_id).await?;
        if let Some(said) = ending.and_then(|ending| BOOK_TRIP.result(&ending).transpose()) {
            println!("  {}", said?);
        }
    }
    print_saga(&engine, "cy", cancelled.saga_id).await?;

    stop.cancel();
    worker.await?;
    engine.shutdown().await;
    scratch.close().await
}

async fn print_saga(engine: &Engine, traveller: &str, saga_id: SagaId) -> anyhow::Result<()> {
    let status = engine.saga(saga_id).await?.map(|saga| saga.status.to_string());
    println!("{traveller}: {}", status.unwrap_or_default());
    print_history(engine, saga_id, "").await?;
    let children = SagaFilter { parent: Some(saga_id), ..SagaFilter::default() };
    for child in engine.sagas(&children, Page { after: None, limit: 10 }).await?.items {
        println!("  its child {}: {}", child.definition, child.status);
        print_history(engine, child.saga_id, "  ").await?;
    }
    Ok(())
}

async fn print_history(engine: &Engine, saga_id: SagaId, indent: &str) -> anyhow::Result<()> {
    for HistoryEntry { seq, step, direction, outcome, error, .. } in
        engine.history(saga_id).await?.unwrap_or_default()
    {
        println!("  {indent}{seq}. {direction} of {step}: {} {}", outcome.name(), error.join("; "));
    }
    Ok(())
}
