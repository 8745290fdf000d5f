//! POST `/api/orders/{order_id}/cancel`.

use axum::extract::State;
use http::StatusCode;
use shop::commands;

use super::body::{Order, OrderCancellation, example};
use crate::{
    extract::{Actor, IdPath, IfMatch, JsonBody, NoQuery},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    resources::versioned::change,
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, RESOURCE_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::NotCancellable, ProblemCode::CancelPending, ProblemCode::PreconditionFailed]);

/// Cancel an order
///
/// An order that is still being placed compensates; one that is confirmed or processing releases its stock. Shipped,
/// delivered and rejected orders can't be cancelled (409 `not-cancellable` with the reason). While a step of the
/// placement is running, or another transaction holds it, the request is noted and waits for the outcome, two seconds at
/// most; then it is answered with the order as it is, which may be `pending`. It is carried out in any case: if the order
/// is confirmed first, the confirmed order is cancelled. Cancelling again changes nothing.
///
/// `If-Match` is compared under the lock that stops the order from being processed, so that an order whose status
/// changed in between is not cancelled. If the outcome of such a request is not known after two seconds, it is a 409
/// `cancel-noted`: send it again.
#[utoipa::path(
    post,
    path = "/api/orders/{order_id}/cancel",
    tag = "orders",
    params(("order_id" = uuid::Uuid, Path, description = "The order"), IfMatch, Actor),
    request_body(content = OrderCancellation, example = json!({"reason": "changed my mind"})),
    responses(
        (
            status = 202,
            description = "The order, cancelled or to be cancelled",
            body = Order,
            headers(
                ("Location" = String, description = "The order"),
                ("ETag" = String, description = "The version of the resource")
            ),
            example = json!(example())
        ),
        Problems
    )
)]
pub(crate) async fn cancel_order(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    condition: IfMatch,
    actor: Actor,
    JsonBody { value: cancellation, .. }: JsonBody<OrderCancellation>,
) -> Result<JsonResponse, Problem> {
    let reason = &cancellation.reason;
    let answer = change(&state, &id, condition, async |expected| {
        commands::cancel_order_version(state.shop(), id, reason, actor.audited_or("api"), expected).await
    });
    Ok(answer.await?.status(StatusCode::ACCEPTED).location(format!("/api/orders/{id}")))
}
