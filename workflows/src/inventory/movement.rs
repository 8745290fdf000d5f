//! The ledger of stock, append only.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

/// Why a level changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovementKind {
    /// The product was created.
    Initial,
    /// Somebody counted.
    Set,
    /// Somebody found, lost or bought some.
    Adjust,
    /// An order holds some from now on.
    Reserve,
    /// An order gave back what it held.
    Release,
    /// What an order held has left.
    Ship,
}

impl MovementKind {
    const ALL: [Self; 6] = [Self::Initial, Self::Set, Self::Adjust, Self::Reserve, Self::Release, Self::Ship];

    /// The stored name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Set => "set",
            Self::Adjust => "adjust",
            Self::Reserve => "reserve",
            Self::Release => "release",
            Self::Ship => "ship",
        }
    }
}

impl TryFrom<String> for MovementKind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("`{text}` is no kind of movement"))
    }
}

/// One change of one level.
#[derive(Debug)]
pub(super) struct Movement<'a> {
    pub(super) sku: &'a str,
    pub(super) delta_on_hand: i64,
    pub(super) delta_reserved: i64,
    pub(super) order_id: Option<Uuid>,
}

/// Enters movements that have kind, actor and reason in common.
pub(super) async fn append(
    conn: &mut PgConnection,
    kind: MovementKind,
    actor: &str,
    reason: Option<&str>,
    movements: &[Movement<'_>],
) -> Result<(), sqlx::Error> {
    let skus: Vec<&str> = movements.iter().map(|movement| movement.sku).collect();
    let on_hand: Vec<i64> = movements.iter().map(|movement| movement.delta_on_hand).collect();
    let reserved: Vec<i64> = movements.iter().map(|movement| movement.delta_reserved).collect();
    let orders: Vec<Option<Uuid>> = movements.iter().map(|movement| movement.order_id).collect();
    sqlx::query(
        "insert into shop.stock_movement (sku, delta_on_hand, delta_reserved, order_id, kind, actor, reason)
         select m.sku, m.delta_on_hand, m.delta_reserved, m.order_id, $5, $6, $7
         from unnest($1::text[], $2::bigint[], $3::bigint[], $4::uuid[])
              as m (sku, delta_on_hand, delta_reserved, order_id)",
    )
    .bind(skus)
    .bind(on_hand)
    .bind(reserved)
    .bind(orders)
    .bind(kind.name())
    .bind(actor)
    .bind(reason)
    .execute(conn)
    .await?;
    Ok(())
}
