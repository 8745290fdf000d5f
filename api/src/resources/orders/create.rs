//! POST `/api/orders`.

use axum::{extract::State, response::Response};
use http::StatusCode;
use shop::{
    commands::{self, PlaceOrderError},
    orders::PlaceOrder,
};

use super::body::{NewOrder, Order, example};
use crate::{
    extract::{Actor, JsonBody, NoQuery, Prefer, StrictObject},
    http::{
        Problem,
        documented::{
            BODY_PROBLEMS, DATABASE_PROBLEMS, ETAG, IDEMPOTENCY_PROBLEMS, PREFERENCE_APPLIED, created,
            problems,
        },
        invalid,
    },
    idempotency::IdempotencyKey,
    resources::versioned::respond,
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, IDEMPOTENCY_PROBLEMS, DATABASE_PROBLEMS);
created!(Created: 201 Order, "The order", example(), [ETAG, PREFERENCE_APPLIED]);

/// Place an order
///
/// The order is durable when the response arrives. Its stock is reserved completely or not at all, then the order is
/// confirmed, then the customer is notified. Without `Prefer: wait` the response comes at once, with the status
/// `pending`; with it, as soon as the order is confirmed or rejected. Current prices apply. All lines must be in one
/// currency.
#[utoipa::path(
    post,
    path = "/api/orders",
    tag = "orders",
    params(IdempotencyKey, Prefer, Actor),
    request_body(content = NewOrder, example = json!({
        "customer_id": "0199f39f-0000-7000-8000-000000000001",
        "customer_email": "a@example.com",
        "items": [{"sku": "TEA-1", "quantity": 2}]
    })),
    responses(
        Created,
        Problems
    )
)]
pub(crate) async fn create_order(
    State(state): State<ApiState>,
    _: NoQuery,
    key: IdempotencyKey,
    prefer: Prefer,
    actor: Actor,
    body: JsonBody<NewOrder>,
) -> Result<Response, Problem> {
    let JsonBody { value: new, bytes, .. } = body;
    let (wait, _permit) = prefer.wait_with_permit(&state);
    state
        .idempotency()
        .run(key, "create_order", &bytes, async |order_id| {
            let order = PlaceOrder {
                order_id,
                customer_id: new.customer_id,
                customer_email: new.customer_email,
                items: new.items.into_iter().map(|StrictObject(item)| item).collect(),
                actor: None,
            };
            let (by, trace) = (actor.audited_or("api"), state.trace_propagator().current());
            let placed = commands::place_order_as(state.shop(), order, by, wait, trace).await;
            let order = placed.map_err(problem)?;
            let location = format!("/api/orders/{}", order.order_id);
            Ok(respond(StatusCode::CREATED, order)?.location(location).preference_applied(wait))
        })
        .await
}

fn problem(error: PlaceOrderError) -> Problem {
    match error {
        PlaceOrderError::Invalid(violations) => invalid(violations),
        PlaceOrderError::Unavailable(reason) => Problem::unavailable(reason),
        PlaceOrderError::Database(error) => error.into(),
    }
}
