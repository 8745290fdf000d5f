//! The event log: its order, its consumers, and the streams that follow it.

mod consumers;
mod held_snapshot;
mod order;
mod slow_clients;
mod streams;

use shop::events::{self, Event, LowWaterMarks, PageSize, Sequenced};
use sqlx::{PgConnection, PgPool};

/// Appends an event as the shop does, and returns its number in the outbox.
async fn append(conn: &mut PgConnection, key: &str, payload: &str) -> i64 {
    append_as(conn, "order.created", key, payload).await
}

async fn append_as(conn: &mut PgConnection, routing_key: &str, key: &str, payload: &str) -> i64 {
    sqlx::query_scalar(
        "insert into shop.outbox (routing_key, key, payload) values ($1, $2, $3::json) returning event_id",
    )
    .bind(routing_key)
    .bind(key)
    .bind(payload)
    .fetch_one(conn)
    .await
    .unwrap()
}

/// Appends this many events and moves them into the event log.
async fn append_events(pool: &PgPool, count: u32) {
    let mut conn = pool.acquire().await.unwrap();
    for n in 0..count {
        append(&mut conn, "k", &n.to_string()).await;
    }
    drop(conn);
    sequence(pool).await;
}

/// Moves all committed events into the event log.
async fn sequence(pool: &PgPool) {
    let marks = LowWaterMarks::default();
    while events::sequence(pool, &marks, 1000).await.unwrap() == Sequenced::Moved(1000) {}
}

/// A page of this many events of any size.
fn page(events: u32) -> PageSize {
    PageSize { events, bytes: u32::MAX }
}

async fn keys(pool: &PgPool, after: i64) -> Vec<(i64, String)> {
    let read = events::read(pool, after, page(1000)).await.unwrap();
    read.events.into_iter().map(|event: Event| (event.event_id, event.key)).collect()
}
