//! Creates or changes many products in one transaction, by their SKUs.

use std::collections::HashMap;

use serde::Deserialize;
use uuid::Uuid;

use super::{create_product::create_many, shop::Shop, update_product::apply};
use crate::{
    inventory::{self, Current, Details, NewProduct},
    support::{audit::AuditActor, violation::Violation},
};

/// The most products in one call.
pub const MAX_BULK_PRODUCTS: usize = 1000;

/// One product of a bulk upsert. Omitted fields of an existing SKU keep their value.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ProductUpsert))]
#[serde(deny_unknown_fields)]
pub struct ListedProduct {
    /// The SKU, by which the product is found.
    #[cfg_attr(feature = "openapi", schema(format = "sku", example = "TEA-1"))]
    pub sku: String,
    /// The name that customers see.
    #[cfg_attr(feature = "openapi", schema(format = "product-name"))]
    pub name: String,
    /// The description; it may have several lines. Omitted or `null`, it stays as it is; a new product has none.
    #[cfg_attr(feature = "openapi", schema(format = "description"))]
    pub description: Option<String>,
    /// The category in which the product is listed.
    #[cfg_attr(feature = "openapi", schema(format = "category"))]
    pub category: String,
    /// The price of one, in minor units of the currency.
    #[cfg_attr(feature = "openapi", schema(format = "amount"))]
    pub price: i64,
    #[expect(missing_docs, reason = "the schema of a currency says what it is")]
    #[cfg_attr(feature = "openapi", schema(value_type = crate::support::currency_schema::Currency))]
    pub currency: String,
    /// The stock on hand of a new product; ignored for an existing one.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(format = "stock"))]
    pub initial_stock: i64,
    /// The stock is low when this many or fewer are available. Omitted or `null`, it stays as it is; 0 for a new
    /// product.
    #[cfg_attr(feature = "openapi", schema(format = "stock"))]
    pub low_stock_threshold: Option<i64>,
}

/// One item of the list, or why it could not be read as a product.
pub type BulkItem = Result<ListedProduct, Vec<Violation>>;

impl ListedProduct {
    /// The product to create if the SKU is new.
    fn as_new(&self) -> NewProduct {
        NewProduct {
            sku: self.sku.clone(),
            name: self.name.clone(),
            description: self.description.clone().unwrap_or_default(),
            category: self.category.clone(),
            price: self.price,
            currency: self.currency.clone(),
            initial_stock: self.initial_stock,
            low_stock_threshold: self.low_stock_threshold.unwrap_or_default(),
        }
    }

    /// The new details of an existing product.
    fn over<'a>(&'a self, known: Details<'a>) -> Details<'a> {
        Details {
            name: &self.name,
            description: self.description.as_deref().unwrap_or(known.description),
            category: &self.category,
            price: self.price,
            currency: &self.currency,
            low_stock_threshold: self.low_stock_threshold.unwrap_or(known.low_stock_threshold),
        }
    }
}

/// What happened to one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upserted {
    /// The SKU was new.
    Created {
        /// The product's id.
        product_id: Uuid,
    },
    /// The details of the product have changed.
    Updated {
        /// The product's id.
        product_id: Uuid,
    },
    /// The details were the same already.
    Unchanged {
        /// The product's id.
        product_id: Uuid,
    },
    /// The item is invalid and was skipped; the other items are not affected. Pointers are relative to the item.
    Refused(Vec<Violation>),
}

/// The products were not upserted.
#[derive(Debug, thiserror::Error)]
pub enum UpsertError {
    /// There were none, or more than [`MAX_BULK_PRODUCTS`].
    #[error("1 to {MAX_BULK_PRODUCTS} products are taken at once, not {0}")]
    Count(usize),
    /// The database refused or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Creates the products with new SKUs and changes the details of the others, in one transaction and about a dozen
/// statements, whatever their number. The results have the order of the items; an invalid or unreadable item is refused
/// in its place.
///
/// `initial_stock` counts for new SKUs only. It is ignored for existing ones, so that the same list a second time
/// changes nothing; [`super::change_stock()`] changes stock, and asks for a reason.
///
/// # Errors
/// See [`UpsertError`]. Nothing has changed then, unless the database's answer was lost.
pub async fn upsert_products(
    shop: &Shop,
    items: &[BulkItem],
    by: impl Into<AuditActor<'_>>,
) -> Result<Vec<Upserted>, UpsertError> {
    let by = by.into();
    if !(1..=MAX_BULK_PRODUCTS).contains(&items.len()) {
        return Err(UpsertError::Count(items.len()));
    }
    let (good, mut answers) = sorted_out(items);
    if good.is_empty() {
        return Ok(answers.into_iter().flatten().collect());
    }
    let mut tx = shop.pool().begin().await?;
    let new: Vec<(Uuid, &NewProduct)> = good.iter().map(|one| (one.fresh_id, &one.as_new)).collect();
    let created = create_many(&mut tx, &new, &by).await?;
    let known: Vec<&str> =
        new.iter().map(|(_, new)| new.sku.as_str()).filter(|sku| !created.contains(*sku)).collect();
    let found = inventory::lock_products(&mut tx, &known).await?;
    let found: HashMap<&str, &Current> =
        found.iter().map(|current| (current.sku.as_str(), current)).collect();
    let mut changes: Vec<(&Current, Details<'_>)> = Vec::new();
    for Good { nth, fresh_id, listed, .. } in &good {
        answers[*nth] = Some(match found.get(listed.sku.as_str()) {
            None => Upserted::Created { product_id: *fresh_id },
            Some(current) if current.details() == listed.over(current.details()) => {
                Upserted::Unchanged { product_id: current.product_id }
            }
            Some(current) => {
                changes.push((current, listed.over(current.details())));
                Upserted::Updated { product_id: current.product_id }
            }
        });
    }
    apply(shop, &mut tx, &changes, &by).await?;
    tx.commit().await?;
    Ok(answers.into_iter().flatten().collect())
}

/// An item that passed all checks that need no database.
struct Good<'a> {
    nth: usize,
    fresh_id: Uuid,
    listed: &'a ListedProduct,
    as_new: NewProduct,
}

/// Separates the valid items, in SKU order (the order in which stock is locked), from the results of the refused ones.
fn sorted_out(items: &[BulkItem]) -> (Vec<Good<'_>>, Vec<Option<Upserted>>) {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut answers = Vec::with_capacity(items.len());
    let mut good = Vec::with_capacity(items.len());
    for (nth, item) in items.iter().enumerate() {
        let answer = match item {
            Err(unreadable) => Some(Upserted::Refused(unreadable.clone())),
            Ok(listed) => {
                let as_new = listed.as_new();
                let mut violations = as_new.violations();
                if violations.is_empty() {
                    let first = *places.entry(&listed.sku).or_insert(nth);
                    if first != nth {
                        let message = format!("item {first} of this request has this SKU already");
                        violations.push(Violation::new("/sku", "duplicate-sku", message));
                    }
                }
                if violations.is_empty() {
                    good.push(Good { nth, fresh_id: Uuid::now_v7(), listed, as_new });
                    None
                } else {
                    Some(Upserted::Refused(violations))
                }
            }
        };
        answers.push(answer);
    }
    good.sort_by(|one, other| one.as_new.sku.cmp(&other.as_new.sku));
    (good, answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(sku: &str, price: i64) -> ListedProduct {
        ListedProduct {
            sku: sku.into(),
            name: "Green tea".into(),
            description: None,
            category: "tea".into(),
            price,
            currency: "EUR".into(),
            initial_stock: 0,
            low_stock_threshold: None,
        }
    }

    #[test]
    fn invalid_items_are_refused_in_their_place_and_valid_ones_are_in_sku_order() {
        let unreadable = Err(vec![Violation::new("/price", "missing-field", "missing field `price`")]);
        let items = [
            Ok(product("B", -1)),
            Ok(product("B", 1)),
            unreadable,
            Ok(product("A", 1)),
            Ok(product("B", 2)),
            Ok(product("", 1)),
        ];
        let (good, answers) = sorted_out(&items);
        let codes: Vec<_> = answers
            .into_iter()
            .map(|refused| match refused {
                Some(Upserted::Refused(violations)) => violations[0].code.clone(),
                _ => String::new(),
            })
            .collect();
        assert_eq!(codes, ["out-of-range", "", "missing-field", "", "duplicate-sku", "wrong-length"]);
        let places: Vec<_> = good.iter().map(|one| (one.nth, one.listed.sku.as_str())).collect();
        assert_eq!(places, [(3, "A"), (1, "B")]);
    }
}
