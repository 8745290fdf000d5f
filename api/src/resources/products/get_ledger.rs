//! GET `/api/products/{product_id}/ledger`.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use shop::inventory;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    extract::{CursorQuery, IdPath, Query, numbered},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, RESOURCE_PROBLEMS, problems},
        documented_enum::documented_enum,
    },
    resources::page::{list, page_of},
    state::ApiState,
};

problems!(Problems: LIST_PROBLEMS, RESOURCE_PROBLEMS, DATABASE_PROBLEMS);

documented_enum!(MovementKind, "Why the stock changed.", inventory::MovementKind::ALL);

/// One change of the stock of a product.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LedgerEntry {
    /// The number of the entry; it grows with time within a product.
    pub(crate) movement_id: i64,
    #[schema(value_type = MovementKind)]
    pub(crate) kind: inventory::MovementKind,
    /// The change of the stock on hand.
    pub(crate) delta_on_hand: i64,
    /// The change of the reserved stock.
    pub(crate) delta_reserved: i64,
    /// The order that reserved, released or shipped the stock, or of which it came back.
    pub(crate) order_id: Option<Uuid>,
    /// The actor: a person, a service or a workflow.
    pub(crate) actor: String,
    /// The reason, if a person made the change.
    pub(crate) reason: Option<String>,
    pub(crate) at: DateTime<Utc>,
}

list!(LedgerEntryList of LedgerEntry, "A page of a ledger, newest first.");

/// Read a product's ledger
///
/// Lists every change of the stock of a product, newest first: by how much, why, by whom, for which order. The sum of
/// all entries is the current stock.
#[utoipa::path(
    get,
    path = "/api/products/{product_id}/ledger",
    tag = "inventory",
    params(("product_id" = Uuid, Path, description = "The product"), CursorQuery),
    responses(
        (status = 200, description = "A page of the ledger", body = LedgerEntryList, example = json!(page_of(&json!({
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
    let rows = inventory::ledger(state.pool(), id, page_request.after_number(), page_request.limit).await?;
    let rows = rows.ok_or_else(|| Problem::not_found("product", id))?;
    JsonResponse::ok(&LedgerEntryList::of(rows, &page_request, |entry| numbered(entry.movement_id)))
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
        Self { movement_id, kind, delta_on_hand, delta_reserved, order_id, actor, reason, at }
    }
}
