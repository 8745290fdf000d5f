//! Sets or adjusts the stock on hand of a product.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    level_changes::{self, LevelChange},
    shop::Shop,
};
use crate::{
    inventory::{self, Level, Movement, MovementKind, Product},
    support::{
        audit::{self, AuditActor, AuditEntry},
        bounds::{REQUIRED_REASON, STOCK, STOCK_DIFFERENCE},
        change_error::ChangeError,
        violation::Violation,
    },
};

/// A change of the stock on hand by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockChange {
    /// Sets the stock on hand to a counted number.
    Set(i64),
    /// Adds this number, which may be negative.
    Adjust(i64),
}

/// The stock on hand can't be changed to that number.
#[derive(Debug, thiserror::Error)]
pub enum StockRefusal {
    /// More would be removed than is on hand.
    #[error("there are only {on_hand} on hand")]
    TooFew {
        /// The stock on hand.
        on_hand: i64,
    },
    /// Less would be on hand than is reserved for orders.
    #[error("{on_hand} on hand would be fewer than the {reserved} that orders hold")]
    BelowReserved {
        /// The stock that would be on hand.
        on_hand: i64,
        /// The stock that is reserved for orders.
        reserved: i64,
    },
}

/// The stock of a product was not changed.
pub type StockError = ChangeError<StockRefusal>;

/// Sets or adjusts the stock on hand, and emits `inventory.updated`. If the available stock falls to its threshold,
/// emits `inventory.low` and mails the administrators.
///
/// # Errors
/// See [`StockError`]. Nothing has changed then, unless the database's answer was lost.
pub async fn change_stock(
    shop: &Shop,
    product_id: Uuid,
    change: StockChange,
    reason: &str,
    by: impl Into<AuditActor<'_>>,
    expected_version: Option<i64>,
) -> Result<Product, StockError> {
    let by = by.into();
    if let Some(violation) = REQUIRED_REASON.violation("/reason", reason) {
        return Err(StockError::Invalid(vec![violation]));
    }
    let mut tx = shop.pool().begin().await?;
    let (sku, before) = inventory::lock_level(&mut tx, product_id).await?.ok_or(StockError::NotFound)?;
    if expected_version.is_some_and(|expected| expected != before.version) {
        return Err(StockError::VersionMismatch { current: before.version });
    }
    let now = Level { on_hand: decide(before, change)?, ..before };
    let (kind, action) = match change {
        StockChange::Set(_) => (MovementKind::Set, "stock.set"),
        StockChange::Adjust(_) => (MovementKind::Adjust, "stock.adjust"),
    };
    let delta_on_hand = now.on_hand - before.on_hand;
    inventory::update_levels(&mut tx, &[(&sku, now)]).await?;
    let movement = Movement { sku: &sku, delta_on_hand, delta_reserved: 0, order_id: None };
    inventory::append_movements(&mut tx, kind, by.actor, Some(reason), &[movement]).await?;
    level_changes::publish(
        shop,
        &mut tx,
        &[LevelChange { sku: &sku, before, now, cause: kind.name(), reason: Some(reason) }],
    )
    .await?;
    let subject = product_id.to_string();
    let change = AuditEntry::new(action, "product", &subject).reason(Some(reason));
    audit::record(&mut tx, &by, &[change.before(audit_json(before)).after(audit_json(now))]).await?;
    let product = inventory::read(&mut tx, product_id).await?.ok_or(StockError::NotFound)?;
    tx.commit().await?;
    Ok(product)
}

/// The audit log's JSON of a stock level.
fn audit_json(level: Level) -> Value {
    json!({
        "on_hand": level.on_hand, "reserved": level.reserved, "low_stock_threshold": level.low_stock_threshold,
    })
}

fn decide(before: Level, change: StockChange) -> Result<i64, StockError> {
    let (pointer, on_hand, lowest) = match change {
        StockChange::Set(on_hand) => ("/set", Some(on_hand), STOCK.min),
        // Not checked with the input: whether this much can be removed depends on the current stock.
        StockChange::Adjust(delta) => ("/adjust", before.on_hand.checked_add(delta), STOCK_DIFFERENCE.min),
    };
    let Some(on_hand) = on_hand.filter(|on_hand| (lowest..=STOCK.max).contains(on_hand)) else {
        let message = format!("must leave 0 to {} on hand; there are {}", STOCK.max, before.on_hand);
        return Err(StockError::Invalid(vec![Violation::new(pointer, "out-of-range", message)]));
    };
    if on_hand < 0 {
        return Err(StockError::Refused(StockRefusal::TooFew { on_hand: before.on_hand }));
    }
    if on_hand < before.reserved {
        return Err(StockError::Refused(StockRefusal::BelowReserved { on_hand, reserved: before.reserved }));
    }
    Ok(on_hand)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Level = Level { version: 1, on_hand: 10, reserved: 4, low_stock_threshold: 0 };

    #[test]
    fn stock_is_never_set_below_the_reserved_stock() {
        assert_eq!(decide(BEFORE, StockChange::Set(4)).unwrap(), 4);
        assert!(matches!(
            decide(BEFORE, StockChange::Set(3)),
            Err(StockError::Refused(StockRefusal::BelowReserved { on_hand: 3, reserved: 4 }))
        ));
        assert!(matches!(
            decide(BEFORE, StockChange::Adjust(-7)),
            Err(StockError::Refused(StockRefusal::BelowReserved { .. }))
        ));
        let all = StockChange::Adjust(-10);
        assert!(matches!(
            decide(BEFORE, all),
            Err(StockError::Refused(StockRefusal::BelowReserved { on_hand: 0, reserved: 4 }))
        ));
    }

    #[test]
    fn no_more_is_removed_than_is_on_hand() {
        for reserved in [0, 4] {
            let refused = decide(Level { reserved, ..BEFORE }, StockChange::Adjust(-11));
            assert!(
                matches!(refused, Err(StockError::Refused(StockRefusal::TooFew { on_hand: 10 }))),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_change_that_overflows_or_goes_below_zero_is_invalid() {
        for change in [StockChange::Adjust(i64::MAX), StockChange::Adjust(i64::MIN), StockChange::Set(-1)] {
            assert!(matches!(decide(BEFORE, change), Err(StockError::Invalid(_))), "{change:?}");
        }
    }
}
