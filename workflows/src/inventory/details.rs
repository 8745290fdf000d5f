//! What a shop says about its products: checked, compared, changed.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::{
    levels::Level,
    product::{self, Product},
    stock::{self, LevelChange, MAX_STOCK},
};
use crate::{
    audit::{self, AuditActor, AuditEntry},
    outbox::{self, NewEvent},
    shop::Shop,
    violation::{Validator, Violation},
};

/// What a shop says about a product, all but its SKU and what is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductDetails {
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
    /// At or under this many available, stock is low.
    #[serde(default)]
    pub low_stock_threshold: i64,
}

impl ProductDetails {
    /// Lists all that is wrong with it.
    pub fn violations(&self) -> Vec<Violation> {
        let mut validator = Validator::default();
        self.borrowed().check(&mut validator);
        validator.done()
    }

    fn borrowed(&self) -> Details<'_> {
        let Self { name, description, category, price, currency, low_stock_threshold } = self;
        Details {
            name,
            description,
            category,
            price: *price,
            currency,
            low_stock_threshold: *low_stock_threshold,
        }
    }
}

/// A product was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateProductError {
    /// There is no such product.
    #[error("there is no such product")]
    NotFound,
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

/// Replaces what is said about a product. Emits `product.updated`; a new threshold is `inventory.updated` too, and
/// `inventory.low` with mails to those who run the shop if stock is low by it. Orders keep the name and the price they
/// were placed with. Saying what is said already changes nothing, the version included.
///
/// # Errors
/// See [`UpdateProductError`]; nothing has changed then, unless the answer of the database was lost.
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
    let sku = product::sku_of(&mut tx, product_id).await?.ok_or(UpdateProductError::NotFound)?;
    let found = lock(&mut tx, &[sku.as_str()]).await?;
    let current = found.first().ok_or(UpdateProductError::NotFound)?;
    if expected_version.is_some_and(|expected| expected != current.version) {
        return Err(UpdateProductError::VersionMismatch { current: current.version });
    }
    if current.details() != details.borrowed() {
        apply(shop, &mut tx, &[(current, details.borrowed())], &by).await?;
    }
    let product = product::read(&mut tx, product_id).await?.ok_or(UpdateProductError::NotFound)?;
    tx.commit().await?;
    Ok(product)
}

/// Borrowed [`ProductDetails`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Details<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) category: &'a str,
    pub(super) price: i64,
    pub(super) currency: &'a str,
    pub(super) low_stock_threshold: i64,
}

impl Details<'_> {
    pub(super) fn check(&self, validator: &mut Validator) {
        validator.single_line("/name", self.name, 1, 200);
        validator.multi_line("/description", self.description, 0, 4000);
        validator.single_line("/category", self.category, 1, 64);
        validator.range("/price", self.price, 0, i64::MAX);
        validator.currency("/currency", self.currency);
        validator.range("/low_stock_threshold", self.low_stock_threshold, 0, MAX_STOCK);
    }

    /// As the audit shows it.
    pub(super) fn audit_json(&self) -> Value {
        json!({
            "name": self.name, "description": self.description, "category": self.category, "price": self.price,
            "currency": self.currency, "low_stock_threshold": self.low_stock_threshold,
        })
    }

    /// Whether a shop says the same, apart from when stock is low.
    fn reads_as(&self, other: &Self) -> bool {
        let plain = |one: &Self| Self { low_stock_threshold: 0, ..*one };
        plain(self) == plain(other)
    }
}

/// A locked product: what is said about it, and its levels.
#[derive(Debug, FromRow)]
pub(super) struct Current {
    pub(super) product_id: Uuid,
    pub(super) sku: String,
    name: String,
    description: String,
    category: String,
    price: i64,
    currency: String,
    on_hand: i64,
    reserved: i64,
    low_stock_threshold: i64,
    version: i64,
}

impl Current {
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
        Level {
            on_hand: self.on_hand,
            reserved: self.reserved,
            low_stock_threshold: self.low_stock_threshold,
        }
    }
}

/// Reads and locks these products, in SKU order; SKUs that do not exist are left out. Both rows are locked, because a
/// row that is only joined would be read as it was before the wait for the lock.
pub(super) async fn lock(conn: &mut PgConnection, skus: &[&str]) -> Result<Vec<Current>, sqlx::Error> {
    sqlx::query_as(
        "select p.product_id, s.sku, p.name, p.description, p.category, p.price, p.currency,
                s.on_hand, s.reserved, s.low_stock_threshold, s.version
         from shop.stock s join shop.product p on p.sku = s.sku
         where s.sku = any($1) order by s.sku for no key update of s, p",
    )
    .bind(skus)
    .fetch_all(conn)
    .await
}

/// Changes locked products and tells of it; each of them differs from what it is to be. At most six statements,
/// however many products, and those that alert.
pub(super) async fn apply(
    shop: &Shop,
    conn: &mut PgConnection,
    changes: &[(&Current, Details<'_>)],
    by: &AuditActor<'_>,
) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    write(conn, changes).await?;
    write_thresholds(conn, changes).await?;
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
    stock::publish(shop, conn, &levels.collect::<Vec<_>>()).await
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

async fn write(conn: &mut PgConnection, changes: &[(&Current, Details<'_>)]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update shop.product p
         set name = d.name, description = d.description, category = d.category, price = d.price,
             currency = d.currency, updated_at = now()
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[])
              as d (product_id, name, description, category, price, currency)
         where p.product_id = d.product_id",
    )
    .bind(changes.iter().map(|(current, _)| current.product_id).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, new)| new.name).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, new)| new.description).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, new)| new.category).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, new)| new.price).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, new)| new.currency).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// The version of a product is its stock's, so that row is written whatever has changed.
async fn write_thresholds(
    conn: &mut PgConnection,
    changes: &[(&Current, Details<'_>)],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update shop.stock s
         set low_stock_threshold = d.low_stock_threshold, version = s.version + 1, updated_at = now()
         from unnest($1::text[], $2::bigint[]) as d (sku, low_stock_threshold)
         where s.sku = d.sku",
    )
    .bind(changes.iter().map(|(current, _)| current.sku.as_str()).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, new)| new.low_stock_threshold).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}
