//! GET `/api/orders/{order_id}`.

use axum::{extract::State, response::Response};

use shop::orders;

use super::body::{Order, example};
use crate::{
    extract::{IdPath, IfNoneMatch, NoQuery},
    http::{
        Problem,
        documented::{DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    resources::versioned::read,
    state::ApiState,
};

problems!(OneProblems: RESOURCE_PROBLEMS, DATABASE_PROBLEMS);

/// Read an order
///
/// Returns an order with its lines, its timeline, and the workflow that places it.
#[utoipa::path(
    get,
    path = "/api/orders/{order_id}",
    tag = "orders",
    params(("order_id" = Uuid, Path, description = "The order"), IfNoneMatch),
    responses(
        (
            status = 200,
            description = "The order",
            body = Order,
            headers(("ETag" = String, description = "The version of the resource, for `If-Match`")),
            example = json!(example())
        ),
        (status = 304, description = "The caller has this version already"),
        OneProblems
    )
)]
pub(crate) async fn get_order(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    seen: IfNoneMatch,
) -> Result<Response, Problem> {
    read::<orders::Order>(&state, &id, seen).await
}
