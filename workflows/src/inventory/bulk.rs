//! Many products at once, created or changed by their SKUs.

use std::collections::HashMap;

use uuid::Uuid;

use super::{
    create::{self, NewProduct},
    details::{self, Current, Details},
};
use crate::{audit::By, shop::Shop, violation::Violation};

/// The most products that one call takes.
pub const BULK_MAX: usize = 1000;

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
    /// There are none, or more than [`BULK_MAX`].
    #[error("1 to {BULK_MAX} products are taken at once, not {0}")]
    Count(usize),
    /// The database refused or is away.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Creates products whose SKU is new and changes what is said about the others, all in one transaction and with a dozen
/// statements, however many they are. The answers are in the order of the products.
///
/// `initial_stock` counts for new SKUs only. For the others it says nothing, so that giving the same products again
/// changes nothing; stock is changed by [`super::change_stock`], which asks for a reason.
///
/// # Errors
/// See [`UpsertError`]; nothing has changed then, unless the answer of the database was lost.
pub async fn upsert_products(
    shop: &Shop,
    products: &[NewProduct],
    by: impl Into<By<'_>>,
) -> Result<Vec<Upserted>, UpsertError> {
    let by = by.into();
    if !(1..=BULK_MAX).contains(&products.len()) {
        return Err(UpsertError::Count(products.len()));
    }
    let mut answers: Vec<Option<Upserted>> = refusals(products);
    let mut good: Vec<(usize, Uuid, &NewProduct)> = products
        .iter()
        .enumerate()
        .filter(|(nth, _)| answers[*nth].is_none())
        .map(|(nth, new)| (nth, Uuid::now_v7(), new))
        .collect();
    // Stock is locked in this order everywhere.
    good.sort_by(|(_, _, one), (_, _, other)| one.sku.cmp(&other.sku));
    let mut tx = shop.pool().begin().await?;
    let new: Vec<(Uuid, &NewProduct)> = good.iter().map(|(_, id, new)| (*id, *new)).collect();
    let created = create::create_many(&mut tx, &new, &by).await?;
    let known: Vec<&str> =
        new.iter().map(|(_, new)| new.sku.as_str()).filter(|sku| !created.contains(*sku)).collect();
    let found = details::lock(&mut tx, &known).await?;
    let found: HashMap<&str, &Current> =
        found.iter().map(|current| (current.sku.as_str(), current)).collect();
    let mut changes: Vec<(&Current, Details<'_>)> = Vec::new();
    for (nth, product_id, new) in good {
        answers[nth] = Some(match found.get(new.sku.as_str()) {
            None => Upserted::Created { product_id },
            Some(current) if current.details() == new.details() => {
                Upserted::Unchanged { product_id: current.product_id }
            }
            Some(current) => {
                changes.push((current, new.details()));
                Upserted::Updated { product_id: current.product_id }
            }
        });
    }
    details::apply(shop, &mut tx, &changes, &by).await?;
    tx.commit().await?;
    Ok(answers.into_iter().flatten().collect())
}

/// What is refused whatever the database says, by place.
fn refusals(products: &[NewProduct]) -> Vec<Option<Upserted>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut refusals = Vec::with_capacity(products.len());
    for (nth, new) in products.iter().enumerate() {
        let mut violations = new.violations();
        if violations.is_empty() {
            let first = *places.entry(&new.sku).or_insert(nth);
            if first != nth {
                let message = format!("item {first} of this request has this SKU already");
                violations.push(Violation::new("/sku", "duplicate-sku", message));
            }
        }
        refusals.push((!violations.is_empty()).then_some(Upserted::Refused(violations)));
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(sku: &str, price: i64) -> NewProduct {
        NewProduct {
            sku: sku.into(),
            name: "Green tea".into(),
            description: String::new(),
            category: "tea".into(),
            price,
            currency: "EUR".into(),
            initial_stock: 0,
            low_stock_threshold: 0,
        }
    }

    #[test]
    fn wrong_products_and_repeated_skus_are_refused_by_their_place() {
        let products = [product("A", -1), product("A", 1), product("B", 1), product("A", 2), product("", 1)];
        let codes: Vec<_> = refusals(&products)
            .into_iter()
            .map(|refused| match refused {
                Some(Upserted::Refused(violations)) => violations[0].code.clone(),
                _ => String::new(),
            })
            .collect();
        assert_eq!(codes, ["out-of-range", "", "", "duplicate-sku", "wrong-length"]);
    }
}
