//! Fills an empty shop with a small catalog.

use super::{
    create_product::{CreateProductError, create_product},
    shop::Shop,
};
use crate::inventory::{self, NewProduct};

/// The catalog could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// A product could not be created.
    #[error("the product `{sku}` could not be created")]
    Product {
        /// The product's SKU.
        sku: String,
        /// Why the product could not be created.
        #[source]
        source: CreateProductError,
    },
    /// The database refused or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Creates the sample products if there is no product yet, and returns how many it created. Several processes may call
/// it at once.
///
/// # Errors
/// When the database refuses or can't be reached; products created until then stay.
pub async fn seed_if_empty(shop: &Shop) -> Result<usize, SeedError> {
    if inventory::any_product(shop.pool()).await? {
        return Ok(0);
    }
    let mut created = 0;
    for product in products() {
        let sku = product.sku.clone();
        match create_product(shop.pool(), product, "seed").await {
            Ok(_) => created += 1,
            // Another process seeds the same catalog.
            Err(CreateProductError::SkuTaken) => {}
            Err(source) => return Err(SeedError::Product { sku, source }),
        }
    }
    Ok(created)
}

fn products() -> Vec<NewProduct> {
    [
        ("TEA-1", "Green tea", "Sencha from Uji, 100 g.", "tea", 1290, 500),
        ("TEA-2", "Black tea", "Assam, second flush, 100 g.", "tea", 990, 500),
        ("TEA-3", "Oolong", "Dong Ding, lightly roasted, 100 g.", "tea", 1890, 200),
        ("TEA-4", "White tea", "Silver needle, 50 g.", "tea", 2490, 40),
        ("COFFEE-1", "Espresso beans", "Dark roast, 500 g.", "coffee", 1450, 300),
        ("COFFEE-2", "Filter beans", "Light roast from Ethiopia, 250 g.", "coffee", 1250, 300),
        ("POT-1", "Cast iron pot", "Keeps 0.8 l warm.", "ware", 5900, 25),
        ("CUP-1", "Tea cup", "Stoneware, 150 ml.", "ware", 1200, 120),
        ("CUP-2", "Travel mug", "Steel, 400 ml.", "ware", 2900, 60),
        ("GIFT-1", "Gift box", "Three teas and a cup.", "gifts", 4900, 10),
    ]
    .into_iter()
    .map(|(sku, name, description, category, price, initial_stock)| NewProduct {
        sku: sku.into(),
        name: name.into(),
        description: description.into(),
        category: category.into(),
        price,
        currency: "EUR".into(),
        initial_stock,
        low_stock_threshold: initial_stock / 10,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_of_the_catalog_is_valid() {
        for product in products() {
            assert_eq!(product.violations(), [], "{}", product.sku);
        }
    }
}
