//! Puts units that customers returned back to stock.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    levels::LevelError,
    movement::{Movement, MovementKind},
    stock_events, write,
};
use crate::support::outbox;

/// Units of an order that are fit for sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Restock {
    pub(crate) order_id: Uuid,
    pub(crate) sku: String,
    /// At least one.
    pub(crate) quantity: i64,
}

/// Puts all of these on hand again. It takes four statements, whatever their number.
pub(crate) async fn restock(
    conn: &mut PgConnection,
    actor: &str,
    restocks: &[Restock],
) -> Result<(), sqlx::Error> {
    if restocks.is_empty() {
        return Ok(());
    }
    let skus: BTreeSet<&str> = restocks.iter().map(|one| one.sku.as_str()).collect();
    let skus: Vec<&str> = skus.into_iter().collect();
    let mut levels = write::lock_levels(conn, &skus).await?;
    for Restock { sku, quantity, .. } in restocks {
        levels.restock(sku, *quantity).map_err(|error: LevelError| sqlx::Error::Decode(Box::new(error)))?;
    }
    let changed: Vec<_> = levels.changed().collect();
    write::update_levels(conn, &changed).await?;
    let movements: Vec<Movement<'_>> = restocks
        .iter()
        .map(|one| Movement {
            sku: &one.sku,
            delta_on_hand: one.quantity,
            delta_reserved: 0,
            order_id: Some(one.order_id),
        })
        .collect();
    write::append_movements(conn, MovementKind::Return, actor, None, &movements).await?;
    let cause = MovementKind::Return.name();
    let events: Vec<_> =
        changed.into_iter().map(|(sku, level)| stock_events::updated(sku, level, cause, None)).collect();
    outbox::append(conn, &events).await
}
