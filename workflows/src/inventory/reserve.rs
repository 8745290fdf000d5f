//! Reserves, releases and ships the stock of many orders at once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    levels::{LevelError, Levels},
    low_stock::LowStock,
    movement::{Movement, MovementKind},
    reservation::{HeldRow, ReservationEnd, ReservationRequest, Reservations},
    stock_events, write,
};
use crate::support::outbox::{self, NewEvent};

/// Reserves for each order all quantities, or nothing. The results have the order of the requests; earlier requests are
/// served first. It takes five statements, whatever the number of orders.
pub(crate) async fn reserve(
    conn: &mut PgConnection,
    actor: &str,
    requests: &[ReservationRequest],
) -> Result<Reservations, sqlx::Error> {
    let skus: BTreeSet<&str> =
        requests.iter().flat_map(|request| request.wanted.keys().map(String::as_str)).collect();
    let skus: Vec<&str> = skus.into_iter().collect();
    let mut levels = write::lock_levels(conn, &skus).await?;
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
    write::insert_reservations(conn, &held).await?;
    write::append_movements(conn, MovementKind::Reserve, actor, None, &movements(&held, 0, 1)).await?;
    let mut events = order_events("inventory.reserved", &held);
    events.extend(updates(&levels, MovementKind::Reserve));
    events.extend(levels.crossed_threshold().map(|(sku, level)| stock_events::low(sku, level)));
    outbox::append(conn, &events).await?;
    let low = levels.crossed_threshold().map(|(sku, level)| LowStock::of(sku, level));
    Ok(Reservations { low: low.collect(), results })
}

/// Ends the reservations that these orders still hold. Orders without any are left alone, so that a repeated call
/// changes nothing. It takes at most six statements, whatever the number of orders.
pub(crate) async fn end_reservations(
    conn: &mut PgConnection,
    actor: &str,
    order_ids: &[Uuid],
    end: ReservationEnd,
) -> Result<(), sqlx::Error> {
    let skus = write::held_skus(conn, order_ids).await?;
    if skus.is_empty() {
        return Ok(());
    }
    let skus: Vec<&str> = skus.iter().map(String::as_str).collect();
    let mut levels = write::lock_levels(conn, &skus).await?;
    let ended = write::end_held(conn, order_ids, end).await?;
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
    write::append_movements(conn, kind, actor, None, &movements(&ended, on_hand_sign, -1)).await?;
    let mut events = match end {
        ReservationEnd::Released => order_events("inventory.released", &ended),
        // The events of the order tell that it was shipped.
        ReservationEnd::Consumed => Vec::new(),
    };
    events.extend(updates(&levels, kind));
    outbox::append(conn, &events).await?;
    Ok(())
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

/// One event for each order, with all its SKUs.
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

/// One event for each SKU, however many orders of the batch changed it.
fn updates(levels: &Levels, kind: MovementKind) -> impl Iterator<Item = NewEvent> {
    levels.changed().map(move |(sku, level)| stock_events::updated(sku, level, kind.name(), None))
}

async fn write_changed(conn: &mut PgConnection, levels: &Levels) -> Result<(), sqlx::Error> {
    let changed: Vec<_> = levels.changed().collect();
    write::update_levels(conn, &changed).await
}
