//! What orders hold: reserved all or nothing, given back or shipped, for many orders at once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{
    levels::{Level, LevelError, Levels, Short},
    movement::{self, Kind, Movement},
    stock,
};
use crate::outbox::{self, Event};

/// What one order wants to hold, summed per SKU.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) order_id: Uuid,
    pub(crate) wanted: BTreeMap<String, i64>,
}

impl Claim {
    /// Sums an order's lines per SKU.
    pub(crate) fn new<'a>(order_id: Uuid, lines: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        let mut wanted = BTreeMap::new();
        for (sku, quantity) in lines {
            *wanted.entry(sku.to_owned()).or_insert(0) += quantity;
        }
        Self { order_id, wanted }
    }
}

/// What came of a batch of claims.
#[derive(Debug)]
pub(crate) struct Reservations {
    /// In the order of the claims: reserved, or what is short.
    pub(crate) answers: Vec<Result<(), Vec<Short>>>,
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
pub(crate) enum Settlement {
    /// The goods stay and can be ordered by others.
    Released,
    /// The goods have left.
    Consumed,
}

impl Settlement {
    fn state(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Consumed => "consumed",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Released => Kind::Release,
            Self::Consumed => Kind::Ship,
        }
    }
}

/// Reserves for each order all that it wants, or nothing; the answers are in the order of the claims, the earlier
/// served first. Five statements, however many orders.
pub(crate) async fn reserve(
    conn: &mut PgConnection,
    actor: &str,
    claims: &[Claim],
) -> Result<Reservations, sqlx::Error> {
    let skus: BTreeSet<&str> =
        claims.iter().flat_map(|claim| claim.wanted.keys().map(String::as_str)).collect();
    let skus: Vec<&str> = skus.into_iter().collect();
    let mut levels = stock::lock(conn, &skus).await?;
    let answers: Vec<_> = claims.iter().map(|claim| levels.take(&claim.wanted)).collect();
    let served: Vec<&Claim> =
        claims.iter().zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(claim, _)| claim).collect();
    if served.is_empty() {
        return Ok(Reservations { answers, low: Vec::new() });
    }
    let held: Vec<Held> = served.iter().flat_map(|claim| held_rows(claim)).collect();
    write_changed(conn, &levels).await?;
    insert(conn, &held).await?;
    movement::enter(conn, Kind::Reserve, actor, None, &movements(&held, 0, 1)).await?;
    let mut events = order_events("inventory.reserved", &held);
    events.extend(updates(&levels, Kind::Reserve));
    events.extend(levels.fell_low().map(|(sku, level)| stock::low(sku, level)));
    outbox::append(conn, &events).await?;
    let low = levels.fell_low().map(|(sku, level)| LowStock::of(sku, level));
    Ok(Reservations { low: low.collect(), answers })
}

/// Ends what these orders still hold; those that hold nothing are left alone, so that repeating it changes nothing.
/// At most six statements, however many orders.
pub(crate) async fn settle(
    conn: &mut PgConnection,
    actor: &str,
    order_ids: &[Uuid],
    settlement: Settlement,
) -> Result<(), sqlx::Error> {
    let skus = held_skus(conn, order_ids).await?;
    if skus.is_empty() {
        return Ok(());
    }
    let skus: Vec<&str> = skus.iter().map(String::as_str).collect();
    let mut levels = stock::lock(conn, &skus).await?;
    let ended = end(conn, order_ids, settlement).await?;
    if ended.is_empty() {
        return Ok(());
    }
    for Held { sku, quantity, .. } in &ended {
        match settlement {
            Settlement::Released => levels.give_back(sku, *quantity),
            Settlement::Consumed => levels.ship(sku, *quantity),
        }
        .map_err(|error: LevelError| sqlx::Error::Decode(Box::new(error)))?;
    }
    write_changed(conn, &levels).await?;
    let (kind, on_hand_sign) = match settlement {
        Settlement::Released => (settlement.kind(), 0),
        Settlement::Consumed => (settlement.kind(), -1),
    };
    movement::enter(conn, kind, actor, None, &movements(&ended, on_hand_sign, -1)).await?;
    let mut events = match settlement {
        Settlement::Released => order_events("inventory.released", &ended),
        // That goods have left is told of the order.
        Settlement::Consumed => Vec::new(),
    };
    events.extend(updates(&levels, kind));
    outbox::append(conn, &events).await?;
    Ok(())
}

#[derive(Debug, FromRow)]
struct Held {
    order_id: Uuid,
    sku: String,
    quantity: i64,
}

fn held_rows(claim: &Claim) -> impl Iterator<Item = Held> {
    let order_id = claim.order_id;
    claim.wanted.iter().map(move |(sku, &quantity)| Held { order_id, sku: sku.clone(), quantity })
}

fn movements(held: &[Held], on_hand_sign: i64, reserved_sign: i64) -> Vec<Movement<'_>> {
    held.iter()
        .map(|Held { order_id, sku, quantity }| Movement {
            sku,
            delta_on_hand: on_hand_sign * quantity,
            delta_reserved: reserved_sign * quantity,
            order_id: Some(*order_id),
        })
        .collect()
}

/// One event an order, with all its SKUs.
fn order_events(routing_key: &'static str, held: &[Held]) -> Vec<Event> {
    let mut by_order: BTreeMap<Uuid, Vec<serde_json::Value>> = BTreeMap::new();
    for Held { order_id, sku, quantity } in held {
        by_order.entry(*order_id).or_default().push(json!({"sku": sku, "quantity": quantity}));
    }
    by_order
        .into_iter()
        .map(|(order_id, items)| {
            Event::new(routing_key, &order_id, &json!({"order_id": order_id, "items": items}))
        })
        .collect()
}

/// One event a SKU, however many orders of the batch changed it.
fn updates(levels: &Levels, kind: Kind) -> impl Iterator<Item = Event> {
    levels.changed().map(move |(sku, level)| stock::updated(sku, level, kind.name(), None))
}

async fn write_changed(conn: &mut PgConnection, levels: &Levels) -> Result<(), sqlx::Error> {
    let changed: Vec<_> = levels.changed().collect();
    stock::write(conn, &changed).await
}

async fn insert(conn: &mut PgConnection, held: &[Held]) -> Result<(), sqlx::Error> {
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
async fn end(
    conn: &mut PgConnection,
    order_ids: &[Uuid],
    settlement: Settlement,
) -> Result<Vec<Held>, sqlx::Error> {
    sqlx::query_as(
        "update shop.reservation set state = $2 where order_id = any($1) and state = 'held'
         returning order_id, sku, quantity",
    )
    .bind(order_ids)
    .bind(settlement.state())
    .fetch_all(conn)
    .await
}
