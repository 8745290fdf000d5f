//! Products whose SKU was given to them before the rules of today: they are sold like the others, but look like another
//! product, or can't be typed.

use sqlx::PgPool;
use uuid::Uuid;

use super::read;
use crate::support::bounds::SKU;

/// How many products one statement reads.
const AT_ONCE: i64 = 5000;

/// A product that could not be created with its SKU today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutdatedSku {
    /// The product.
    pub product_id: Uuid,
    /// Its SKU.
    pub sku: String,
    /// What is wrong with it: `must …`.
    pub rule: String,
}

/// Finds the first `limit` products whose SKU breaks a rule of today. Reads all SKUs, in parts.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn outdated_skus(pool: &PgPool, limit: usize) -> Result<Vec<OutdatedSku>, sqlx::Error> {
    let mut found = Vec::new();
    let mut after = Uuid::nil();
    loop {
        let skus = read::skus_after(pool, after, AT_ONCE).await?;
        let Some(&(last, _)) = skus.last() else { return Ok(found) };
        after = last;
        let outdated = skus.into_iter().filter_map(|(product_id, sku)| {
            let rule = SKU.violation("/sku", &sku)?.message;
            Some(OutdatedSku { product_id, sku, rule })
        });
        found.extend(outdated.take(limit - found.len()));
        if found.len() == limit {
            return Ok(found);
        }
    }
}
