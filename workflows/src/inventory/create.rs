//! Products created, one or many, each with its first stock.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{
    details::Details,
    levels::Level,
    movement::{self, Movement, MovementKind},
    product::{self, Product},
    stock::{self, MAX_STOCK},
};
use crate::{
    audit::{self, AuditActor, AuditEntry},
    outbox::{self, NewEvent},
    violation::{Validator, Violation},
};

/// A product to be created.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewProduct {
    /// The shop's own name for it, unique; 1 to 64 characters.
    pub sku: String,
    /// The name customers see; 1 to 200 characters.
    pub name: String,
    /// Up to 4000 characters.
    #[serde(default)]
    pub description: String,
    /// 1 to 64 characters.
    pub category: String,
    /// What one costs, in minor units of the currency.
    pub price: i64,
    /// ISO 4217.
    pub currency: String,
    /// How many there are.
    #[serde(default)]
    pub initial_stock: i64,
    /// At or under this many available, stock is low.
    #[serde(default)]
    pub low_stock_threshold: i64,
}

impl NewProduct {
    /// Lists all that is wrong with it.
    pub fn violations(&self) -> Vec<Violation> {
        let mut validator = Validator::default();
        validator.single_line("/sku", &self.sku, 1, 64);
        self.details().check(&mut validator);
        validator.range("/initial_stock", self.initial_stock, 0, MAX_STOCK);
        validator.done()
    }

    pub(super) fn details(&self) -> Details<'_> {
        Details {
            name: &self.name,
            description: &self.description,
            category: &self.category,
            price: self.price,
            currency: &self.currency,
            low_stock_threshold: self.low_stock_threshold,
        }
    }

    fn level(&self) -> Level {
        Level { on_hand: self.initial_stock, reserved: 0, low_stock_threshold: self.low_stock_threshold }
    }
}

/// A product was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateProductError {
    /// Another product has the SKU.
    #[error("the SKU is taken")]
    SkuTaken,
    /// The request is wrong.
    #[error("the request is wrong")]
    Invalid(Vec<Violation>),
    /// The database refused or is away.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Creates a product with its first stock, which is the first movement of its ledger. A product that has little from the
/// beginning has not fallen low: nobody is alerted.
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

/// As [`create_product`], under an id of the caller's: repeated after an answer that was lost, it finds the product that
/// the first try made.
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
        let made_before = product::read(&mut tx, product_id).await?.filter(|product| product.sku == new.sku);
        return made_before.ok_or(CreateProductError::SkuTaken);
    }
    let product = product::read(&mut tx, product_id).await?.ok_or(sqlx::Error::RowNotFound)?;
    tx.commit().await?;
    Ok(product)
}

/// Creates those whose SKU is free, and says which these are. At most five statements, however many products. To be
/// given in SKU order, so that two such transactions wait for each other instead of deadlocking.
pub(super) async fn create_many(
    conn: &mut PgConnection,
    products: &[(Uuid, &NewProduct)],
    by: &AuditActor<'_>,
) -> Result<HashSet<String>, sqlx::Error> {
    let created = insert(conn, products).await?;
    let new: Vec<&NewProduct> =
        products.iter().map(|(_, new)| *new).filter(|new| created.contains(&new.sku)).collect();
    if new.is_empty() {
        return Ok(created);
    }
    insert_stock(conn, &new).await?;
    let movements: Vec<Movement<'_>> = new
        .iter()
        .map(|new| Movement {
            sku: &new.sku,
            delta_on_hand: new.initial_stock,
            delta_reserved: 0,
            order_id: None,
        })
        .collect();
    movement::append(conn, MovementKind::Initial, by.actor, None, &movements).await?;
    let events: Vec<NewEvent> = new
        .iter()
        .map(|new| stock::updated(&new.sku, new.level(), MovementKind::Initial.name(), None))
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

async fn insert(
    conn: &mut PgConnection,
    products: &[(Uuid, &NewProduct)],
) -> Result<HashSet<String>, sqlx::Error> {
    let skus: Vec<String> = sqlx::query_scalar(
        "insert into shop.product (product_id, sku, name, description, category, price, currency)
         select n.product_id, n.sku, n.name, n.description, n.category, n.price, n.currency
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[])
              with ordinality as n (product_id, sku, name, description, category, price, currency, nth)
         order by n.nth
         on conflict (sku) do nothing
         returning sku",
    )
    .bind(products.iter().map(|(product_id, _)| *product_id).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, new)| new.sku.as_str()).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, new)| new.name.as_str()).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, new)| new.description.as_str()).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, new)| new.category.as_str()).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, new)| new.price).collect::<Vec<_>>())
    .bind(products.iter().map(|(_, new)| new.currency.as_str()).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    Ok(skus.into_iter().collect())
}

async fn insert_stock(conn: &mut PgConnection, new: &[&NewProduct]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into shop.stock (sku, on_hand, low_stock_threshold)
         select n.sku, n.on_hand, n.low_stock_threshold
         from unnest($1::text[], $2::bigint[], $3::bigint[]) as n (sku, on_hand, low_stock_threshold)",
    )
    .bind(new.iter().map(|new| new.sku.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.initial_stock).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.low_stock_threshold).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}
