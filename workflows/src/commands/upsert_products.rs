//! Many products at once, created or changed by their SKUs.

use std::collections::HashMap;

use uuid::Uuid;

use super::{create_product::create_many, shop::Shop, update_product::apply};
use crate::{
    inventory::{self, Current, Details, NewProduct},
    support::{audit::AuditActor, violation::Violation},
};

/// The most products that one call takes.
pub const MAX_BULK_PRODUCTS: usize = 1000;

/// A product as a list of many has it. What it leaves out stays as it is: a list of prices says nothing of thresholds.
#[derive(Clone, Debug)]
pub struct ListedProduct {
    /// The shop's own name for it, by which it is known.
    pub sku: String,
    /// The name customers see; 1 to 200 characters.
    pub name: String,
    /// Up to 4000 characters; of a new one nothing, when it is left out.
    pub description: Option<String>,
    /// 1 to 64 characters.
    pub category: String,
    /// What one costs, in minor units of the currency.
    pub price: i64,
    /// ISO 4217.
    pub currency: String,
    /// How many there are of a new one.
    pub initial_stock: i64,
    /// At or under this many available, stock is low; of a new one at none, when it is left out.
    pub low_stock_threshold: Option<i64>,
}

/// One item of a list, or what kept it from being read as a product.
pub type BulkItem = Result<ListedProduct, Vec<Violation>>;

impl ListedProduct {
    /// The product that it is if there is none with its SKU.
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

    /// What it makes of a known one.
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

/// What became of one product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upserted {
    /// There was none with its SKU.
    Created {
        /// Its id.
        product_id: Uuid,
    },
    /// Something else is said about it now.
    Updated {
        /// Its id.
        product_id: Uuid,
    },
    /// The same was said about it already.
    Unchanged {
        /// Its id.
        product_id: Uuid,
    },
    /// It is wrong, and left out; the others are not concerned. Pointers are relative to the product.
    Refused(Vec<Violation>),
}

/// The products were not taken.
#[derive(Debug, thiserror::Error)]
pub enum UpsertError {
    /// There are none, or more than [`MAX_BULK_PRODUCTS`].
    #[error("1 to {MAX_BULK_PRODUCTS} products are taken at once, not {0}")]
    Count(usize),
    /// The database refused or is away.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Creates products whose SKU is new and changes what is said about the others, all in one transaction and with a dozen
/// statements, however many they are. The answers are in the order of the items; one that is wrong, or could not be
/// read, is refused in its place.
///
/// `initial_stock` counts for new SKUs only. For the others it says nothing, so that giving the same products again
/// changes nothing; stock is changed by [`super::change_stock()`], which asks for a reason.
///
/// # Errors
/// See [`UpsertError`]; nothing has changed then, unless the answer of the database was lost.
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

/// An item that nothing speaks against, whatever the database says.
struct Good<'a> {
    nth: usize,
    fresh_id: Uuid,
    listed: &'a ListedProduct,
    as_new: NewProduct,
}

/// Parts what can be taken, in SKU order, in which stock is locked everywhere, from the answers to the rest.
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
    fn what_is_wrong_is_refused_by_its_place_and_the_rest_is_in_sku_order() {
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
