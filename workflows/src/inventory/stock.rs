//! Levels in the database: locked, written, and changed by people.

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    levels::{Level, Levels, crossed_threshold},
    movement::{self, Movement, MovementKind},
    product::{self, Product},
    reservation::LowStock,
};
use crate::{
    audit::{self, AuditActor, AuditEntry},
    outbox::{self, NewEvent},
    shop::Shop,
    violation::{Violation, check_required_reason},
};

/// The most that can be on hand: sums over a million such ledgers still fit.
pub(super) const MAX_STOCK: i64 = 1_000_000_000_000;

/// A person's change of what is on hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockChange {
    /// There are this many, as counted.
    Set(i64),
    /// There are this many more, or fewer.
    Adjust(i64),
}

/// Stock was not changed.
#[derive(Debug, thiserror::Error)]
pub enum StockError {
    /// There is no such product.
    #[error("there is no such product")]
    NotFound,
    /// More would be taken away than there are.
    #[error("there are only {on_hand} on hand")]
    TooFew {
        /// How many there are.
        on_hand: i64,
    },
    /// Fewer would be on hand than orders hold already.
    #[error("{on_hand} on hand would be fewer than the {reserved} that orders hold")]
    BelowReserved {
        /// How many there would be.
        on_hand: i64,
        /// How many orders hold.
        reserved: i64,
    },
    /// Somebody changed it since the caller looked.
    #[error("the product's version is {current} by now")]
    VersionMismatch {
        /// The version it has now.
        current: i64,
    },
    /// The request is wrong.
    #[error("the request is wrong")]
    Invalid(Vec<Violation>),
    /// The database refused or is away.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Sets or adjusts what is on hand, and emits `inventory.updated`. If that crosses the threshold it emits `inventory.low`
/// and mails those who run the shop.
///
/// # Errors
/// See [`StockError`]; nothing has changed then, unless the answer of the database was lost.
pub async fn change_stock(
    shop: &Shop,
    product_id: Uuid,
    change: StockChange,
    reason: &str,
    by: impl Into<AuditActor<'_>>,
    expected_version: Option<i64>,
) -> Result<Product, StockError> {
    let by = by.into();
    if let Some(violation) = check_required_reason("/reason", reason) {
        return Err(StockError::Invalid(vec![violation]));
    }
    let mut tx = shop.pool().begin().await?;
    let (sku, version, before) = lock_product(&mut tx, product_id).await?.ok_or(StockError::NotFound)?;
    if expected_version.is_some_and(|expected| expected != version) {
        return Err(StockError::VersionMismatch { current: version });
    }
    let now = Level { on_hand: decide(before, change)?, ..before };
    let (kind, action) = match change {
        StockChange::Set(_) => (MovementKind::Set, "stock.set"),
        StockChange::Adjust(_) => (MovementKind::Adjust, "stock.adjust"),
    };
    let delta_on_hand = now.on_hand - before.on_hand;
    write(&mut tx, &[(&sku, now)]).await?;
    let movement = Movement { sku: &sku, delta_on_hand, delta_reserved: 0, order_id: None };
    movement::append(&mut tx, kind, by.actor, Some(reason), &[movement]).await?;
    publish(
        shop,
        &mut tx,
        &[LevelChange { sku: &sku, before, now, cause: kind.name(), reason: Some(reason) }],
    )
    .await?;
    let subject = product_id.to_string();
    let change = AuditEntry::new(action, "product", &subject).reason(Some(reason));
    audit::record(&mut tx, &by, &[change.before(audit_json(before)).after(audit_json(now))]).await?;
    let product = product::read(&mut tx, product_id).await?.ok_or(StockError::NotFound)?;
    tx.commit().await?;
    Ok(product)
}

/// A level as the audit shows it.
fn audit_json(level: Level) -> Value {
    json!({
        "on_hand": level.on_hand, "reserved": level.reserved, "low_stock_threshold": level.low_stock_threshold,
    })
}

/// Levels that somebody changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct LevelChange<'a> {
    pub(super) sku: &'a str,
    pub(super) before: Level,
    pub(super) now: Level,
    pub(super) cause: &'a str,
    pub(super) reason: Option<&'a str>,
}

/// Tells consumers of changed levels, and those who run the shop of what fell low, in the transaction of the change.
pub(super) async fn publish(
    shop: &Shop,
    conn: &mut PgConnection,
    changes: &[LevelChange<'_>],
) -> Result<(), sqlx::Error> {
    let (mut events, mut fallen) = (Vec::new(), Vec::new());
    for LevelChange { sku, before, now, cause, reason } in changes {
        events.push(updated(sku, *now, cause, *reason));
        if crossed_threshold(*before, *now) {
            events.push(low(sku, *now));
            fallen.push(LowStock::of(sku, *now));
        }
    }
    outbox::append(conn, &events).await?;
    shop.start_in(conn, shop.admins().low_stock(&fallen)).await
}

/// Tells of new levels.
pub(super) fn updated(sku: &str, level: Level, cause: &str, reason: Option<&str>) -> NewEvent {
    let payload = json!({
        "sku": sku,
        "on_hand": level.on_hand,
        "reserved": level.reserved,
        "available": level.available(),
        "low_stock_threshold": level.low_stock_threshold,
        "cause": cause,
        "reason": reason,
    });
    NewEvent::new("inventory.updated", &sku, &payload)
}

/// Tells that the threshold was crossed downwards.
pub(super) fn low(sku: &str, level: Level) -> NewEvent {
    let payload = json!({
        "sku": sku,
        "available": level.available(),
        "low_stock_threshold": level.low_stock_threshold,
    });
    NewEvent::new("inventory.low", &sku, &payload)
}

/// Reads and locks the levels of these SKUs, in SKU order; SKUs that do not exist are left out.
pub(super) async fn lock(conn: &mut PgConnection, skus: &[&str]) -> Result<Levels, sqlx::Error> {
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "select sku, on_hand, reserved, low_stock_threshold from shop.stock
         where sku = any($1) order by sku for no key update",
    )
    .bind(skus)
    .fetch_all(conn)
    .await?;
    Ok(Levels::new(rows.into_iter().map(|(sku, on_hand, reserved, low_stock_threshold)| {
        (sku, Level { on_hand, reserved, low_stock_threshold })
    })))
}

/// Writes levels that are locked.
pub(super) async fn write(conn: &mut PgConnection, levels: &[(&str, Level)]) -> Result<(), sqlx::Error> {
    let skus: Vec<&str> = levels.iter().map(|(sku, _)| *sku).collect();
    let on_hand: Vec<i64> = levels.iter().map(|(_, level)| level.on_hand).collect();
    let reserved: Vec<i64> = levels.iter().map(|(_, level)| level.reserved).collect();
    sqlx::query(
        "update shop.stock s
         set on_hand = l.on_hand, reserved = l.reserved, version = s.version + 1, updated_at = now()
         from unnest($1::text[], $2::bigint[], $3::bigint[]) as l (sku, on_hand, reserved)
         where s.sku = l.sku",
    )
    .bind(skus)
    .bind(on_hand)
    .bind(reserved)
    .execute(conn)
    .await?;
    Ok(())
}

async fn lock_product(
    conn: &mut PgConnection,
    product_id: Uuid,
) -> Result<Option<(String, i64, Level)>, sqlx::Error> {
    let row: Option<(String, i64, i64, i64, i64)> = sqlx::query_as(
        "select s.sku, s.version, s.on_hand, s.reserved, s.low_stock_threshold
         from shop.product p join shop.stock s on s.sku = p.sku
         where p.product_id = $1 for no key update of s",
    )
    .bind(product_id)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|(sku, version, on_hand, reserved, low_stock_threshold)| {
        (sku, version, Level { on_hand, reserved, low_stock_threshold })
    }))
}

fn decide(before: Level, change: StockChange) -> Result<i64, StockError> {
    let (pointer, on_hand, lowest) = match change {
        StockChange::Set(on_hand) => ("/set", Some(on_hand), 0),
        // Too large a step down is no mistake of form: it depends on what is held now.
        StockChange::Adjust(delta) => ("/adjust", before.on_hand.checked_add(delta), -MAX_STOCK),
    };
    let Some(on_hand) = on_hand.filter(|on_hand| (lowest..=MAX_STOCK).contains(on_hand)) else {
        let message = format!("must leave 0 to {MAX_STOCK} on hand; there are {}", before.on_hand);
        return Err(StockError::Invalid(vec![Violation::new(pointer, "out-of-range", message)]));
    };
    if on_hand < 0 {
        return Err(StockError::TooFew { on_hand: before.on_hand });
    }
    if on_hand < before.reserved {
        return Err(StockError::BelowReserved { on_hand, reserved: before.reserved });
    }
    Ok(on_hand)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Level = Level { on_hand: 10, reserved: 4, low_stock_threshold: 0 };

    #[test]
    fn stock_is_never_set_below_what_orders_hold() {
        assert_eq!(decide(BEFORE, StockChange::Set(4)).unwrap(), 4);
        assert!(matches!(
            decide(BEFORE, StockChange::Set(3)),
            Err(StockError::BelowReserved { on_hand: 3, reserved: 4 })
        ));
        assert!(matches!(decide(BEFORE, StockChange::Adjust(-7)), Err(StockError::BelowReserved { .. })));
        let all = StockChange::Adjust(-10);
        assert!(matches!(decide(BEFORE, all), Err(StockError::BelowReserved { on_hand: 0, reserved: 4 })));
    }

    #[test]
    fn no_more_is_taken_away_than_there_is() {
        for reserved in [0, 4] {
            let refused = decide(Level { reserved, ..BEFORE }, StockChange::Adjust(-11));
            assert!(matches!(refused, Err(StockError::TooFew { on_hand: 10 })), "{refused:?}");
        }
    }

    #[test]
    fn a_change_that_overflows_or_goes_below_zero_is_invalid() {
        for change in [StockChange::Adjust(i64::MAX), StockChange::Adjust(i64::MIN), StockChange::Set(-1)] {
            assert!(matches!(decide(BEFORE, change), Err(StockError::Invalid(_))), "{change:?}");
        }
    }
}
