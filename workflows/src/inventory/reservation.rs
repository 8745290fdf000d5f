//! What orders hold: reserved all or nothing, given back or shipped, for many orders at once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sqlx::PgConnection;
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::{
    levels::{Level, LevelError, Levels, Shortage},
    movement::{self, Movement, MovementKind},
    stock,
};
use crate::outbox::{self, NewEvent};

/// What one order wants to hold, summed per SKU.
#[derive(Debug)]
pub(crate) struct ReservationRequest {
    pub(crate) order_id: Uuid,
    pub(crate) wanted: BTreeMap<String, i64>,
}

impl ReservationRequest {
    /// Sums an order's lines per SKU.
    pub(crate) fn new<'a>(order_id: Uuid, lines: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        let mut wanted = BTreeMap::new();
        for (sku, quantity) in lines {
            *wanted.entry(sku.to_owned()).or_insert(0) += quantity;
        }
        Self { order_id, wanted }
    }
}

/// What came of a batch of requests.
#[derive(Debug)]
pub(crate) struct Reservations {
    /// In the order of the requests: reserved, or what is short.
    pub(crate) results: Vec<Result<(), Vec<Shortage>>>,
    /// The products whose stock fell to its threshold by this.
    pub(crate) low: Vec<LowStock>,
}

/// A product whose stock fell to or under its threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LowStock {
    pub(crate) sku: String,
    pub(crate) available: i64,
    pub(crate) threshold: i64,
}

impl LowStock {
    pub(super) fn of(sku: &str, level: Level) -> Self {
        Self { sku: sku.into(), available: level.available(), threshold: level.low_stock_threshold }
    }
}

/// How a reservation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReservationEnd {
    /// The goods stay and can be ordered by others.
    Released,
    /// The goods have left.
    Consumed,
}

impl ReservationEnd {
    fn state(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Consumed => "consumed",
        }
    }

    fn kind(self) -> MovementKind {
        match self {
            Self::Released => MovementKind::Release,
            Self::Consumed => MovementKind::Ship,
        }
    }
}

/// Reserves for each order all that it wants, or nothing; the results are in the order of the requests, the earlier
/// served first. Five statements, however many orders.
pub(crate) async fn reserve(
    conn: &mut PgConnection,
    actor: &str,
    requests: &[ReservationRequest],
) -> Result<Reservations, sqlx::Error> {
    let skus: BTreeSet<&str> =
        requests.iter().flat_map(|request| request.wanted.keys().map(String::as_str)).collect();
    let skus: Vec<&str> = skus.into_iter().collect();
    let mut levels = stock::lock(conn, &skus).await?;
    let results: Vec<_> = requests.iter().map(|request| levels.reserve(&request.wanted)).collect();
    let served: Vec<&ReservationRequest> = requests
        .iter()
        .zip(&results)
        .filter(|(_, answer)| answer.is_ok())
        .map(|(request, _)| request)
        .collect();
    if served.is_empty() {
        return Ok(Reservations { results, low: Vec::new() });
    }
    let held: Vec<HeldRow> = served.iter().flat_map(|request| held_rows(request)).collect();
    write_changed(conn, &levels).await?;
    insert(conn, &held).await?;
    movement::append(conn, MovementKind::Reserve, actor, None, &movements(&held, 0, 1)).await?;
    let mut events = order_events("inventory.reserved", &held);
    events.extend(updates(&levels, MovementKind::Reserve));
    events.extend(levels.crossed_threshold().map(|(sku, level)| stock::low(sku, level)));
    outbox::append(conn, &events).await?;
    let low = levels.crossed_threshold().map(|(sku, level)| LowStock::of(sku, level));
    Ok(Reservations { low: low.collect(), results })
}

/// Ends what these orders still hold; those that hold nothing are left alone, so that repeating it changes nothing.
/// At most six statements, however many orders.
pub(crate) async fn end_reservations(
    conn: &mut PgConnection,
    actor: &str,
    order_ids: &[Uuid],
    end: ReservationEnd,
) -> Result<(), sqlx::Error> {
    let skus = held_skus(conn, order_ids).await?;
    if skus.is_empty() {
        return Ok(());
    }
    let skus: Vec<&str> = skus.iter().map(String::as_str).collect();
    let mut levels = stock::lock(conn, &skus).await?;
    let ended = end_held(conn, order_ids, end).await?;
    if ended.is_empty() {
        return Ok(());
    }
    for HeldRow { sku, quantity, .. } in &ended {
        match end {
            ReservationEnd::Released => levels.release(sku, *quantity),
            ReservationEnd::Consumed => levels.ship(sku, *quantity),
        }
        .map_err(|error: LevelError| sqlx::Error::Decode(Box::new(error)))?;
    }
    write_changed(conn, &levels).await?;
    let (kind, on_hand_sign) = match end {
        ReservationEnd::Released => (end.kind(), 0),
        ReservationEnd::Consumed => (end.kind(), -1),
    };
    movement::append(conn, kind, actor, None, &movements(&ended, on_hand_sign, -1)).await?;
    let mut events = match end {
        ReservationEnd::Released => order_events("inventory.released", &ended),
        // That goods have left is told of the order.
        ReservationEnd::Consumed => Vec::new(),
    };
    events.extend(updates(&levels, kind));
    outbox::append(conn, &events).await?;
    Ok(())
}

#[derive(Debug, FromRow)]
struct HeldRow {
    order_id: Uuid,
    sku: String,
    quantity: i64,
}

fn held_rows(request: &ReservationRequest) -> impl Iterator<Item = HeldRow> {
    let order_id = request.order_id;
    request.wanted.iter().map(move |(sku, &quantity)| HeldRow { order_id, sku: sku.clone(), quantity })
}

fn movements(held: &[HeldRow], on_hand_sign: i64, reserved_sign: i64) -> Vec<Movement<'_>> {
    held.iter()
        .map(|HeldRow { order_id, sku, quantity }| Movement {
            sku,
            delta_on_hand: on_hand_sign * quantity,
            delta_reserved: reserved_sign * quantity,
            order_id: Some(*order_id),
        })
        .collect()
}

/// One event an order, with all its SKUs.
fn order_events(routing_key: &'static str, held: &[HeldRow]) -> Vec<NewEvent> {
    let mut by_order: BTreeMap<Uuid, Vec<serde_json::Value>> = BTreeMap::new();
    for HeldRow { order_id, sku, quantity } in held {
        by_order.entry(*order_id).or_default().push(json!({"sku": sku, "quantity": quantity}));
    }
    by_order
        .into_iter()
        .map(|(order_id, items)| {
            NewEvent::new(routing_key, &order_id, &json!({"order_id": order_id, "items": items}))
        })
        .collect()
}

/// One event a SKU, however many orders of the batch changed it.
fn updates(levels: &Levels, kind: MovementKind) -> impl Iterator<Item = NewEvent> {
    levels.changed().map(move |(sku, level)| stock::updated(sku, level, kind.name(), None))
}

async fn write_changed(conn: &mut PgConnection, levels: &Levels) -> Result<(), sqlx::Error> {
    let changed: Vec<_> = levels.changed().collect();
    stock::write(conn, &changed).await
}

async fn insert(conn: &mut PgConnection, held: &[HeldRow]) -> Result<(), sqlx::Error> {
    let orders: Vec<Uuid> = held.iter().map(|row| row.order_id).collect();
    let skus: Vec<&str> = held.iter().map(|row| row.sku.as_str()).collect();
    let quantities: Vec<i64> = held.iter().map(|row| row.quantity).collect();
    sqlx::query(
        "insert into shop.reservation (order_id, sku, quantity)
         select r.order_id, r.sku, r.quantity
         from unnest($1::uuid[], $2::text[], $3::bigint[]) as r (order_id, sku, quantity)",
    )
    .bind(orders)
    .bind(skus)
    .bind(quantities)
    .execute(conn)
    .await?;
    Ok(())
}

async fn held_skus(conn: &mut PgConnection, order_ids: &[Uuid]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select distinct sku from shop.reservation where order_id = any($1) and state = 'held'",
    )
    .bind(order_ids)
    .fetch_all(conn)
    .await
}

/// The stock of these reservations is locked, so nobody else ends them meanwhile.
async fn end_held(
    conn: &mut PgConnection,
    order_ids: &[Uuid],
    end: ReservationEnd,
) -> Result<Vec<HeldRow>, sqlx::Error> {
    sqlx::query_as(
        "update shop.reservation set state = $2 where order_id = any($1) and state = 'held'
         returning order_id, sku, quantity",
    )
    .bind(order_ids)
    .bind(end.state())
    .fetch_all(conn)
    .await
}
