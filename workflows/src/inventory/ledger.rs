//! The ledger of one product, as it is shown.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgPool, Postgres, QueryBuilder};
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::{movement::MovementKind, product};

/// One change of a product's levels.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct LedgerEntry {
    /// Its number; grows with time within a product.
    pub movement_id: i64,
    /// Why it changed.
    pub kind: MovementKind,
    /// How many more there are.
    pub delta_on_hand: i64,
    /// How many more orders hold.
    pub delta_reserved: i64,
    /// The order that reserved, gave back or left.
    pub order_id: Option<Uuid>,
    /// Who, or which saga, did it.
    pub actor: String,
    /// Why, where a person did it.
    pub reason: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// Reads a product's ledger, newest first, up to `limit` entries older than `before`; `None` when there is no such
/// product.
///
/// # Errors
/// When the database refuses or is away.
pub async fn ledger(
    pool: &PgPool,
    product_id: Uuid,
    before: Option<i64>,
    limit: u32,
) -> Result<Option<Vec<LedgerEntry>>, sqlx::Error> {
    let mut conn = pool.acquire().await?;
    let Some(sku) = product::sku_of(&mut conn, product_id).await? else { return Ok(None) };
    let mut query = QueryBuilder::<Postgres>::new(
        "select movement_id, kind, delta_on_hand, delta_reserved, order_id, actor, reason, at
         from shop.stock_movement where sku = ",
    );
    query.push_bind(sku);
    if let Some(before) = before {
        query.push(" and movement_id < ").push_bind(before);
    }
    query.push(" order by movement_id desc limit ").push_bind(i64::from(limit));
    query.build_query_as().fetch_all(&mut *conn).await.map(Some)
}
