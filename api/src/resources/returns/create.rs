//! POST `/api/orders/{order_id}/returns`.

use axum::{extract::State, response::Response};
use http::StatusCode;
use shop::{
    commands::{self, RequestReturnError},
    returns::ReturnOrder,
};
use uuid::Uuid;

use super::body::{NewReturn, Return, example};
use crate::{
    extract::{Actor, IdPath, JsonBody, NoQuery, StrictObject},
    http::{
        Problem, ProblemCode,
        documented::{
            BODY_PROBLEMS, DATABASE_PROBLEMS, ETAG, IDEMPOTENCY_PROBLEMS, RESOURCE_PROBLEMS, created,
            problems,
        },
        invalid,
    },
    idempotency::IdempotencyKey,
    resources::versioned::respond,
    state::ApiState,
};

problems!(
    Problems: BODY_PROBLEMS, RESOURCE_PROBLEMS, IDEMPOTENCY_PROBLEMS, DATABASE_PROBLEMS,
    &[ProblemCode::NotReturnable]
);
created!(Created: 201 Return, "The return", example(), [ETAG]);

/// Return an order
///
/// Requests the return of an order that is shipped or delivered, or of part of it. A person approves or rejects it; then
/// its parcel is awaited, what is fit for sale of it goes back to stock, and the customer is told. No unit is in two
/// returns; those of a return that was rejected, expired or cancelled can be returned again.
#[utoipa::path(
    post,
    path = "/api/orders/{order_id}/returns",
    tag = "returns",
    params(("order_id" = Uuid, Path, description = "The order"), IdempotencyKey, Actor),
    request_body(content = NewReturn, example = json!({
        "reason": "too small", "items": [{"sku": "TEA-1", "quantity": 1}]
    })),
    responses(
        Created,
        Problems
    )
)]
pub(crate) async fn create_return(
    State(state): State<ApiState>,
    IdPath(order_id): IdPath,
    _: NoQuery,
    key: IdempotencyKey,
    actor: Actor,
    body: JsonBody<NewReturn>,
) -> Result<Response, Problem> {
    let JsonBody { value: NewReturn { reason, items }, bytes, .. } = body;
    let items = items.map(|items| items.into_iter().map(|StrictObject(item)| item).collect::<Vec<_>>());
    if items.as_ref().is_some_and(Vec::is_empty) {
        return Err(Problem::field("/items", "wrong-length", "must have 1 to 100 items, or be left out"));
    }
    let operation = format!("create_return:{order_id}");
    state
        .idempotency()
        .run(key, &operation, &bytes, async |return_id| {
            let items = items.unwrap_or_default();
            let request = ReturnOrder { return_id, order_id, items, reason, actor: None };
            let (by, trace) = (actor.audited_or("api"), state.trace_propagator().current());
            let requested = commands::request_return(state.shop(), request, by, trace).await;
            let accepted = requested.map_err(|error| problem(error, order_id))?;
            let location = format!("/api/returns/{}", accepted.return_id);
            Ok(respond(StatusCode::CREATED, accepted)?.location(location))
        })
        .await
}

fn problem(error: RequestReturnError, order_id: Uuid) -> Problem {
    match error {
        RequestReturnError::NoSuchOrder => Problem::not_found("order", order_id),
        RequestReturnError::Invalid(violations) => invalid(violations),
        RequestReturnError::NotReturnable(message) => Problem::new(ProblemCode::NotReturnable, message),
        RequestReturnError::Unavailable(reason) => Problem::unavailable(reason),
        RequestReturnError::Database(error) => error.into(),
    }
}
