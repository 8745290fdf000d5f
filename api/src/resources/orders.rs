//! Orders: placed, read, moved along, cancelled.

mod body;
mod cancel;
mod change;
mod create;
mod read;

use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) use cancel::{__path_cancel_order, cancel_order};
pub(crate) use change::{__path_update_order_status, update_order_status};
pub(crate) use create::{__path_create_order, create_order};
pub(crate) use read::{
    __path_get_order, __path_list_customer_orders, __path_list_orders, __path_list_orders_by_status,
    get_order, list_customer_orders, list_orders, list_orders_by_status,
};

use crate::{http::Problem, state::ApiState};

async fn load(state: &ApiState, id: Uuid) -> Result<shop::orders::Order, Problem> {
    let order = shop::orders::get(state.pool(), id).await?;
    order.ok_or_else(|| Problem::not_found("order", id))
}

fn example() -> Value {
    json!({
        "order_id": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3d",
        "customer_id": "0199f39f-0000-7000-8000-000000000001",
        "customer_email": "a@example.com",
        "status": "confirmed",
        "status_reason": null,
        "currency": "EUR",
        "total": 2580,
        "items": [
            {"sku": "TEA-1", "name": "Green tea", "quantity": 2, "unit_price": 1290, "line_total": 2580}
        ],
        "timeline": [
            {"status": "pending", "at": "2026-11-22T10:00:00.000123Z", "actor": "key:web", "reason": null},
            {"status": "confirmed", "at": "2026-11-22T10:00:00.004567Z", "actor": "place-order", "reason": null}
        ],
        "workflow_id": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3e",
        "created_at": "2026-11-22T10:00:00.000123Z",
        "updated_at": "2026-11-22T10:00:00.004567Z"
    })
}
