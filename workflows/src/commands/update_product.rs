//! Changes the details of a product.

use std::convert::Infallible;

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    level_changes::{self, LevelChange},
    shop::Shop,
};
use crate::{
    inventory::{self, Current, Details, Level, Product, ProductDetails},
    support::{
        audit::{self, AuditActor, AuditEntry},
        change_error::ChangeError,
        outbox::{self, NewEvent},
    },
};

/// A product was not changed.
pub type UpdateProductError = ChangeError<Infallible>;

/// Replaces the details of a product, and emits `product.updated`. A new threshold emits `inventory.updated`, too, and
/// if the stock is low by it, `inventory.low` with mails to the administrators. Existing orders keep the name and price
/// with which they were placed. Details that are the same change nothing, not even the version.
///
/// # Errors
/// See [`UpdateProductError`]. Nothing has changed then, unless the database's answer was lost.
pub async fn update_product(
    shop: &Shop,
    product_id: Uuid,
    details: &ProductDetails,
    by: impl Into<AuditActor<'_>>,
    expected_version: Option<i64>,
) -> Result<Product, UpdateProductError> {
    let by = by.into();
    let violations = details.violations();
    if !violations.is_empty() {
        return Err(UpdateProductError::Invalid(violations));
    }
    let mut tx = shop.pool().begin().await?;
    let sku = inventory::sku_of(&mut tx, product_id).await?.ok_or(UpdateProductError::NotFound)?;
    let found = inventory::lock_products(&mut tx, &[sku.as_str()]).await?;
    let current = found.first().ok_or(UpdateProductError::NotFound)?;
    if expected_version.is_some_and(|expected| expected != current.version) {
        return Err(UpdateProductError::VersionMismatch { current: current.version });
    }
    if current.details() != details.borrowed() {
        apply(shop, &mut tx, &[(current, details.borrowed())], &by).await?;
    }
    let product = inventory::read(&mut tx, product_id).await?.ok_or(UpdateProductError::NotFound)?;
    tx.commit().await?;
    Ok(product)
}

/// Writes new details of locked products and appends their events. Each of the products has to differ from its new
/// details. It takes at most six statements, whatever the number of products, and those of the alerts.
pub(crate) async fn apply(
    shop: &Shop,
    conn: &mut PgConnection,
    changes: &[(&Current, Details<'_>)],
    by: &AuditActor<'_>,
) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    inventory::update_details(conn, changes).await?;
    inventory::update_thresholds(conn, changes).await?;
    let said = changes.iter().filter(|(current, new)| !current.details().reads_as(new));
    let events: Vec<NewEvent> = said.map(|(current, new)| updated(current, new, by.actor)).collect();
    outbox::append(conn, &events).await?;
    let subjects: Vec<String> = changes.iter().map(|(current, _)| current.product_id.to_string()).collect();
    let records = subjects.iter().zip(changes).map(|(subject, (current, new))| {
        AuditEntry::new("product.update", "product", subject)
            .before(current.details().audit_json())
            .after(new.audit_json())
    });
    audit::record(conn, by, &records.collect::<Vec<_>>()).await?;
    let levels = changes.iter().filter_map(|(current, new)| {
        let before = current.level();
        let now = Level { low_stock_threshold: new.low_stock_threshold, ..before };
        (before != now).then_some(LevelChange {
            sku: &current.sku,
            before,
            now,
            cause: "threshold",
            reason: None,
        })
    });
    level_changes::publish(shop, conn, &levels.collect::<Vec<_>>()).await
}

fn updated(current: &Current, new: &Details<'_>, actor: &str) -> NewEvent {
    let payload = json!({
        "product_id": current.product_id,
        "sku": current.sku,
        "name": new.name,
        "category": new.category,
        "price": new.price,
        "currency": new.currency,
        "actor": actor,
    });
    NewEvent::new("product.updated", &current.sku, &payload)
}
