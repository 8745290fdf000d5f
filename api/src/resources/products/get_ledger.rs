//! GET `/api/products/{product_id}/ledger`.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use shop::inventory;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    extract::{CursorQuery, IdPath, Query, next_page, numbered},
    http::{
        JsonResponse, Problem,
        documented::{LIST, ONE, STORED, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(Problems: LIST, ONE, STORED);

/// Why a level changed.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MovementKind {
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

/// One change of a product's levels.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LedgerEntry {
    /// Its number; it grows with time within a product.
    pub(crate) movement_id: i64,
    pub(crate) kind: MovementKind,
    /// How many more are on hand; fewer when negative.
    pub(crate) delta_on_hand: i64,
    /// How many more orders hold; fewer when negative.
    pub(crate) delta_reserved: i64,
    /// The order that reserved, gave back or left.
    pub(crate) order_id: Option<Uuid>,
    /// Who, or which workflow, did it.
    pub(crate) actor: String,
    /// Why, where a person did it.
    pub(crate) reason: Option<String>,
    pub(crate) at: DateTime<Utc>,
}

/// A page of a ledger, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ledger {
    pub(crate) items: Vec<LedgerEntry>,
    /// Give it as `cursor` to get the next page; `null` on the last one.
    pub(crate) next_cursor: Option<String>,
}

/// Read a product's ledger
///
/// Every change of its levels, newest first: by how much, why, by whom, for which order. The sums of all entries are the
/// levels.
#[utoipa::path(
    get,
    path = "/api/products/{product_id}/ledger",
    tag = "inventory",
    params(("product_id" = Uuid, Path, description = "The product"), CursorQuery),
    responses(
        (status = 200, description = "A page of the ledger", body = Ledger, example = json!(page_of(&json!({
            "movement_id": 17,
            "kind": "adjust",
            "delta_on_hand": -3,
            "delta_reserved": 0,
            "order_id": null,
            "actor": "key:warehouse/anna",
            "reason": "damaged",
            "at": "2026-11-22T10:00:00.000123Z"
        })))),
        Problems
    )
)]
pub(crate) async fn get_product_ledger(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    Query(query): Query<CursorQuery>,
) -> Result<JsonResponse, Problem> {
    let page_request = query.page_request("ledger", &id.to_string())?;
    let rows =
        inventory::ledger(state.pool(), id, page_request.after_number(), page_request.read_limit()).await?;
    let rows = rows.ok_or_else(|| Problem::not_found("product", id))?;
    let (rows, next_cursor) = next_page(rows, &page_request, |entry| numbered(entry.movement_id));
    JsonResponse::ok(&Ledger { items: rows.into_iter().map(Into::into).collect(), next_cursor })
}

impl From<inventory::LedgerEntry> for LedgerEntry {
    fn from(entry: inventory::LedgerEntry) -> Self {
        let inventory::LedgerEntry {
            movement_id,
            kind,
            delta_on_hand,
            delta_reserved,
            order_id,
            actor,
            reason,
            at,
        } = entry;
        Self { movement_id, kind: kind.into(), delta_on_hand, delta_reserved, order_id, actor, reason, at }
    }
}

impl From<inventory::MovementKind> for MovementKind {
    fn from(kind: inventory::MovementKind) -> Self {
        match kind {
            inventory::MovementKind::Initial => Self::Initial,
            inventory::MovementKind::Set => Self::Set,
            inventory::MovementKind::Adjust => Self::Adjust,
            inventory::MovementKind::Reserve => Self::Reserve,
            inventory::MovementKind::Release => Self::Release,
            inventory::MovementKind::Ship => Self::Ship,
        }
    }
}
