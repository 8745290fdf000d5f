//! Stock levels in memory: decides reservations and their ends, between one locked read and one write.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx_macros::FromRow;

/// The stock level of one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct Level {
    /// The version of the product, as it was read.
    pub(crate) version: i64,
    pub(crate) on_hand: i64,
    pub(crate) reserved: i64,
    pub(crate) low_stock_threshold: i64,
}

impl Level {
    pub(crate) fn available(self) -> i64 {
        self.on_hand - self.reserved
    }

    fn is_low(self) -> bool {
        self.available() <= self.low_stock_threshold
    }
}

/// A SKU with less available stock than an order wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shortage {
    pub(crate) sku: String,
    pub(crate) requested: i64,
    pub(crate) available: i64,
}

/// A level can't be changed in this way; stock, ledger and reservations disagree.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LevelError {
    #[error("the stock of `{0}` is not locked, or does not exist")]
    Unknown(String),
    #[error(
        "`{sku}` has {reserved} reserved and {on_hand} on hand, less than the {quantity} to be taken off"
    )]
    TooLow { sku: String, on_hand: i64, reserved: i64, quantity: i64 },
}

/// The locked levels of some products: as read, and as they will be written.
#[derive(Debug, Default)]
pub(crate) struct Levels(BTreeMap<String, Slot>);

#[derive(Debug)]
struct Slot {
    before: Level,
    now: Level,
}

impl Levels {
    pub(crate) fn new(rows: impl IntoIterator<Item = (String, Level)>) -> Self {
        Self(rows.into_iter().map(|(sku, level)| (sku, Slot { before: level, now: level })).collect())
    }

    /// Reserves all quantities, or nothing.
    pub(crate) fn reserve(&mut self, wanted: &BTreeMap<String, i64>) -> Result<(), Vec<Shortage>> {
        let available = |sku: &String| self.0.get(sku).map_or(0, |slot| slot.now.available());
        let short: Vec<Shortage> = wanted
            .iter()
            .filter(|&(sku, &requested)| available(sku) < requested)
            .map(|(sku, &requested)| Shortage { sku: sku.clone(), requested, available: available(sku) })
            .collect();
        if !short.is_empty() {
            return Err(short);
        }
        for (sku, quantity) in wanted {
            if let Some(slot) = self.0.get_mut(sku) {
                slot.now.reserved += quantity;
            }
        }
        Ok(())
    }

    /// Releases a reservation: its quantity is available again.
    pub(crate) fn release(&mut self, sku: &str, quantity: i64) -> Result<(), LevelError> {
        self.reserved(sku, quantity)?.reserved -= quantity;
        Ok(())
    }

    /// Consumes a reservation: its quantity is no longer reserved and no longer on hand.
    pub(crate) fn ship(&mut self, sku: &str, quantity: i64) -> Result<(), LevelError> {
        let level = self.reserved(sku, quantity)?;
        level.reserved -= quantity;
        level.on_hand -= quantity;
        Ok(())
    }

    /// Puts units that came back on hand again.
    pub(crate) fn restock(&mut self, sku: &str, quantity: i64) -> Result<(), LevelError> {
        let slot = self.0.get_mut(sku).ok_or_else(|| LevelError::Unknown(sku.into()))?;
        slot.now.on_hand += quantity;
        Ok(())
    }

    /// The levels that have changed since they were read, in SKU order.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&str, Level)> {
        self.0.iter().filter(|(_, slot)| slot.before != slot.now).map(|(sku, slot)| (sku.as_str(), slot.now))
    }

    /// The levels that fell to their threshold or below, in SKU order.
    pub(crate) fn crossed_threshold(&self) -> impl Iterator<Item = (&str, Level)> {
        self.0
            .iter()
            .filter(|(_, slot)| crossed_threshold(slot.before, slot.now))
            .map(|(sku, slot)| (sku.as_str(), slot.now))
    }

    fn reserved(&mut self, sku: &str, quantity: i64) -> Result<&mut Level, LevelError> {
        let slot = self.0.get_mut(sku).ok_or_else(|| LevelError::Unknown(sku.into()))?;
        let Level { on_hand, reserved, .. } = slot.now;
        if quantity > reserved || quantity > on_hand {
            return Err(LevelError::TooLow { sku: sku.into(), on_hand, reserved, quantity });
        }
        Ok(&mut slot.now)
    }
}

/// Whether a change crosses the threshold downwards. Later sales below the threshold don't cross it again, so they
/// cause no second alert.
pub(crate) fn crossed_threshold(before: Level, now: Level) -> bool {
    !before.is_low() && now.is_low()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn level(on_hand: i64, reserved: i64) -> Level {
        Level { version: 1, on_hand, reserved, low_stock_threshold: 2 }
    }

    fn levels(rows: &[(&str, Level)]) -> Levels {
        Levels::new(rows.iter().map(|(sku, level)| ((*sku).to_owned(), *level)))
    }

    fn wanted(rows: &[(&str, i64)]) -> BTreeMap<String, i64> {
        rows.iter().map(|(sku, quantity)| ((*sku).to_owned(), *quantity)).collect()
    }

    #[test]
    fn a_reservation_is_all_or_nothing_and_names_every_short_line() {
        let mut levels = levels(&[("A", level(5, 0)), ("B", level(1, 0)), ("C", level(4, 4))]);
        let short = levels.reserve(&wanted(&[("A", 5), ("B", 2), ("C", 1), ("D", 1)])).unwrap_err();
        let named: Vec<_> = short.iter().map(|s| (s.sku.as_str(), s.requested, s.available)).collect();
        assert_eq!(named, [("B", 2, 1), ("C", 1, 0), ("D", 1, 0)]);
        assert_eq!(levels.changed().count(), 0);
    }

    #[test]
    fn orders_of_one_batch_see_what_earlier_ones_reserved() {
        let mut levels = levels(&[("A", level(10, 0))]);
        let served = (0..200).filter(|_| levels.reserve(&wanted(&[("A", 1)])).is_ok()).count();
        assert_eq!(served, 10);
        assert_eq!(levels.changed().collect::<Vec<_>>(), [("A", level(10, 10))]);
    }

    #[test]
    fn a_threshold_is_crossed_once() {
        let mut levels = levels(&[("A", level(5, 0))]);
        levels.reserve(&wanted(&[("A", 2)])).unwrap();
        assert_eq!(levels.crossed_threshold().count(), 0);
        levels.reserve(&wanted(&[("A", 1)])).unwrap();
        assert_eq!(levels.crossed_threshold().count(), 1);
        assert!(!crossed_threshold(level(5, 3), level(5, 4)), "it was low already");
    }

    #[test]
    fn no_more_is_released_than_is_reserved() {
        let mut levels = levels(&[("A", level(5, 1))]);
        assert!(levels.release("A", 2).is_err());
        assert_eq!(levels.release("B", 1), Err(LevelError::Unknown("B".into())));
        assert_eq!(levels.changed().count(), 0);
    }

    proptest! {
        #[test]
        fn nothing_is_ever_oversold_or_negative(
            stock in prop::collection::vec(0i64..40, 3),
            operations in prop::collection::vec((0usize..3, prop::collection::vec(0i64..12, 3)), 1..60),
        ) {
            let skus = ["A", "B", "C"];
            let mut levels = Levels::new(skus.iter().zip(&stock).map(|(sku, &n)| ((*sku).to_owned(), level(n, 0))));
            let mut held: Vec<BTreeMap<String, i64>> = Vec::new();
            let mut shipped = [0i64; 3];
            for (operation, quantities) in operations {
                let order: BTreeMap<String, i64> = skus
                    .iter()
                    .zip(quantities)
                    .filter(|&(_, quantity)| quantity > 0)
                    .map(|(sku, quantity)| ((*sku).to_owned(), quantity))
                    .collect();
                match operation {
                    0 => if levels.reserve(&order).is_ok() { held.push(order) },
                    1 => if let Some(order) = held.pop() {
                        for (sku, &quantity) in &order { levels.release(sku, quantity).unwrap(); }
                    },
                    _ => if let Some(order) = held.pop() {
                        for (sku, &quantity) in &order {
                            levels.ship(sku, quantity).unwrap();
                            shipped[skus.iter().position(|s| s == sku).unwrap()] += quantity;
                        }
                    },
                }
                for (nth, sku) in skus.iter().enumerate() {
                    let now = levels.0[*sku].now;
                    let open: i64 = held.iter().filter_map(|order| order.get(*sku)).sum();
                    prop_assert!(now.available() >= 0);
                    prop_assert_eq!(now.reserved, open);
                    prop_assert_eq!(now.on_hand, stock[nth] - shipped[nth]);
                }
            }
        }
    }
}
