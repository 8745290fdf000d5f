//! The transactional outbox: an event is a row that is written in the transaction of its change. [`crate::events`]
//! moves the rows into the event log.

use serde_json::Value;
use sqlx::PgConnection;

/// An event to append.
#[derive(Debug)]
pub(crate) struct NewEvent {
    routing_key: &'static str,
    key: String,
    payload: String,
}

impl NewEvent {
    /// Makes an event. Events with the same key (an order's id, a SKU) reach consumers in order.
    pub(crate) fn new(routing_key: &'static str, key: &impl ToString, payload: &Value) -> Self {
        Self { routing_key, key: key.to_string(), payload: payload.to_string() }
    }
}

/// Appends events in this order. The caller has locked the rows that their keys name.
pub(crate) async fn append(conn: &mut PgConnection, events: &[NewEvent]) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    let routing_keys: Vec<&str> = events.iter().map(|event| event.routing_key).collect();
    let keys: Vec<&str> = events.iter().map(|event| event.key.as_str()).collect();
    let payloads: Vec<&str> = events.iter().map(|event| event.payload.as_str()).collect();
    sqlx::query(
        "insert into shop.outbox (routing_key, key, payload)
         select e.routing_key, e.key, e.payload::json
         from unnest($1::text[], $2::text[], $3::text[]) with ordinality as e (routing_key, key, payload, nth)
         order by e.nth",
    )
    .bind(routing_keys)
    .bind(keys)
    .bind(payloads)
    .execute(conn)
    .await?;
    Ok(())
}
