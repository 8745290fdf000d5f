//! PUT `/api/orders/{order_id}/status`.

use axum::extract::State;
use shop::commands;

use super::body::{Order, OrderStatusUpdate, example};
use crate::{
    extract::{Actor, IdPath, IfMatch, JsonBody, NoQuery, check_reason},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    resources::versioned::change,
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, RESOURCE_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::IllegalStatus, ProblemCode::PreconditionFailed]);

/// Change the status of an order
///
/// From confirmed to processing to shipped to delivered, one at a time. Shipping consumes the reservation, so that the
/// stock on hand falls. Other changes are a 409 that names the legal ones.
#[utoipa::path(
    put,
    path = "/api/orders/{order_id}/status",
    tag = "orders",
    params(("order_id" = uuid::Uuid, Path, description = "The order"), IfMatch, Actor),
    request_body(content = OrderStatusUpdate, example = json!({"status": "processing", "reason": "picked"})),
    responses(
        (
            status = 200,
            description = "The order as it is now",
            body = Order,
            headers(("ETag" = String, description = "The new version of the resource")),
            example = json!(example())
        ),
        Problems
    )
)]
pub(crate) async fn update_order_status(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    condition: IfMatch,
    actor: Actor,
    JsonBody { value: update, .. }: JsonBody<OrderStatusUpdate>,
) -> Result<JsonResponse, Problem> {
    let OrderStatusUpdate { status, reason } = update;
    let reason = reason.as_deref();
    reason.map_or(Ok(()), check_reason)?;
    change(&state, &id, condition, async |expected| {
        commands::set_order_status(state.shop(), id, status, reason, actor.audited_or("api"), expected).await
    })
    .await
}
