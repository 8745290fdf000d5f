//! The ledger of stock, append only.

use sqlx::PgConnection;
use uuid::Uuid;

/// Why a level changed, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Initial,
    Set,
    Adjust,
    Reserve,
    Release,
    Ship,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
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

/// One change of one level.
#[derive(Debug)]
pub(super) struct Movement<'a> {
    pub(super) sku: &'a str,
    pub(super) delta_on_hand: i64,
    pub(super) delta_reserved: i64,
    pub(super) order_id: Option<Uuid>,
}

/// Enters movements that have kind, actor and reason in common.
pub(super) async fn enter(
    conn: &mut PgConnection,
    kind: Kind,
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
