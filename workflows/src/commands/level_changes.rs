//! Publishes changed stock levels, and sends low-stock alerts.

use sqlx::PgConnection;

use super::shop::Shop;
use crate::{
    inventory::{self, Level, LowStock, crossed_threshold},
    sagas::low_stock_alerts,
    support::outbox,
};

/// Stock levels that a person changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LevelChange<'a> {
    pub(crate) sku: &'a str,
    pub(crate) before: Level,
    pub(crate) now: Level,
    pub(crate) cause: &'a str,
    pub(crate) reason: Option<&'a str>,
}

/// Appends the events of changed levels, and starts the alerts for products that became low, in the transaction of the
/// change.
pub(crate) async fn publish(
    shop: &Shop,
    conn: &mut PgConnection,
    changes: &[LevelChange<'_>],
) -> Result<(), sqlx::Error> {
    let (mut events, mut fallen) = (Vec::new(), Vec::new());
    for LevelChange { sku, before, now, cause, reason } in changes {
        events.push(inventory::updated(sku, *now, cause, *reason));
        if crossed_threshold(*before, *now) {
            events.push(inventory::low(sku, *now));
            fallen.push(LowStock::of(sku, *now));
        }
    }
    outbox::append(conn, &events).await?;
    shop.start_in(conn, low_stock_alerts(shop.admins(), &fallen)).await
}
