//! POST `/api/orders/{order_id}/cancel`.

use ::workflows::orders::{self, CancelOrderError};
use axum::extract::State;
use http::StatusCode;

use super::{
    body::{Order, OrderCancellation},
    example, load,
};
use crate::{
    answer::Answer,
    problem::{
        Code, Problem,
        answers::{BODY, ONE, STORED, problems},
    },
    request::{Actor, IdPath, IfMatch, JsonBody, Query},
    resources::{checked_reason, invalid},
    state::ApiState,
};

problems!(Problems: BODY, ONE, STORED, &[Code::NotCancellable, Code::PreconditionFailed]);

/// Cancel an order
///
/// An order that is still being placed unwinds; one that is confirmed or processing gives its stock back. Shipped,
/// delivered and rejected orders can't be cancelled (409 with the reason). Cancelling again changes nothing.
#[utoipa::path(
    post,
    path = "/api/orders/{order_id}/cancel",
    tag = "orders",
    params(("order_id" = uuid::Uuid, Path, description = "The order"), IfMatch, Actor),
    request_body(content = OrderCancellation, example = json!({"reason": "changed my mind"})),
    responses(
        (
            status = 202,
            description = "The order; it is cancelled, or being cancelled",
            body = Order,
            headers(
                ("Location" = String, description = "Where to see it become cancelled"),
                ("ETag" = String, description = "Its version")
            ),
            example = json!(example())
        ),
        Problems
    )
)]
pub(crate) async fn cancel_order(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    Query(()): Query<()>,
    condition: IfMatch,
    actor: Actor,
    JsonBody { value: cancellation, .. }: JsonBody<OrderCancellation>,
) -> Result<Answer, Problem> {
    checked_reason(&cancellation.reason)?;
    if condition != IfMatch::Anything {
        // Cancelling is a saga and not one update; the version is compared right before it begins.
        let current = load(&state, id).await?.version;
        if condition.expected(Some(current))?.is_some_and(|expected| expected != current) {
            return Err(IfMatch::failed(Some(current)));
        }
    }
    let cancelled = orders::cancel(state.shop(), id, &cancellation.reason, actor.by("api")).await;
    let order = cancelled.map_err(|error| match error {
        CancelOrderError::NotFound => Problem::not_found("order", id),
        CancelOrderError::NotCancellable { message, .. } => Problem::new(Code::NotCancellable, message),
        CancelOrderError::Invalid(violations) => invalid(violations),
        CancelOrderError::Unavailable(reason) => Problem::unavailable(reason),
        CancelOrderError::Database(error) => error.into(),
    })?;
    let version = order.version;
    let answer = Answer::new(StatusCode::ACCEPTED, &Order::from(order))?;
    Ok(answer.at(format!("/api/orders/{id}")).version(version))
}
