//! Creates products, one or many, each with its initial stock.

use std::collections::HashSet;

use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    inventory::{self, Movement, MovementKind, NewProduct, Product},
    support::{
        audit::{self, AuditActor, AuditEntry},
        outbox::{self, NewEvent},
        violation::Violation,
    },
};

/// A product was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateProductError {
    /// Another product has the SKU.
    #[error("the SKU is taken")]
    SkuTaken,
    /// The request is invalid.
    #[error("the request is wrong")]
    Invalid(Vec<Violation>),
    /// The database refused or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Creates a product with its initial stock, which is the first movement in its ledger. No alert is sent, even if the
/// initial stock is below the threshold.
///
/// # Errors
/// See [`CreateProductError`].
pub async fn create_product(
    pool: &PgPool,
    new: NewProduct,
    by: impl Into<AuditActor<'_>>,
) -> Result<Product, CreateProductError> {
    create_product_as(pool, Uuid::now_v7(), new, by).await
}

/// As [`create_product`], with an id that the caller chose. A caller that lost the answer can repeat the call and gets
/// the product of the first call.
///
/// # Errors
/// As [`create_product`].
pub async fn create_product_as(
    pool: &PgPool,
    product_id: Uuid,
    new: NewProduct,
    by: impl Into<AuditActor<'_>>,
) -> Result<Product, CreateProductError> {
    let by = by.into();
    let violations = new.violations();
    if !violations.is_empty() {
        return Err(CreateProductError::Invalid(violations));
    }
    let mut tx = pool.begin().await?;
    if create_many(&mut tx, &[(product_id, &new)], &by).await?.is_empty() {
        let made_before =
            inventory::read(&mut tx, product_id).await?.filter(|product| product.sku == new.sku);
        return made_before.ok_or(CreateProductError::SkuTaken);
    }
    let product = inventory::read(&mut tx, product_id).await?.ok_or(sqlx::Error::RowNotFound)?;
    tx.commit().await?;
    Ok(product)
}

/// Creates the products whose SKU is free, and returns their SKUs. It takes at most five statements, whatever their
/// number. Callers pass them in SKU order, so that two such transactions wait for each other and don't deadlock.
pub(crate) async fn create_many(
    conn: &mut PgConnection,
    products: &[(Uuid, &NewProduct)],
    by: &AuditActor<'_>,
) -> Result<HashSet<String>, sqlx::Error> {
    let created = inventory::insert_products(conn, products).await?;
    let new: Vec<&NewProduct> =
        products.iter().map(|(_, new)| *new).filter(|new| created.contains(&new.sku)).collect();
    if new.is_empty() {
        return Ok(created);
    }
    inventory::insert_stock(conn, &new).await?;
    let movements: Vec<Movement<'_>> = new
        .iter()
        .map(|new| Movement {
            sku: &new.sku,
            delta_on_hand: new.initial_stock,
            delta_reserved: 0,
            order_id: None,
        })
        .collect();
    inventory::append_movements(conn, MovementKind::Initial, by.actor, None, &movements).await?;
    let events: Vec<NewEvent> = new
        .iter()
        .map(|new| inventory::updated(&new.sku, new.level(), MovementKind::Initial.name(), None))
        .collect();
    outbox::append(conn, &events).await?;
    record(conn, products.iter().filter(|(_, new)| created.contains(&new.sku)), by).await?;
    Ok(created)
}

async fn record<'a>(
    conn: &mut PgConnection,
    created: impl Iterator<Item = &'a (Uuid, &'a NewProduct)>,
    by: &AuditActor<'_>,
) -> Result<(), sqlx::Error> {
    let audit_json = |new: &NewProduct| {
        let mut audit_json = new.details().audit_json();
        audit_json["sku"] = new.sku.as_str().into();
        audit_json["on_hand"] = new.initial_stock.into();
        audit_json
    };
    let created: Vec<(String, Value)> = created.map(|(id, new)| (id.to_string(), audit_json(new))).collect();
    let changes = created.iter().map(|(subject, audit_json)| {
        AuditEntry::new("product.create", "product", subject).after(audit_json.clone())
    });
    audit::record(conn, by, &changes.collect::<Vec<_>>()).await
}
