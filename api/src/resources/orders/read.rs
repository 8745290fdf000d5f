//! GET of one order and of lists of them.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use shop::orders::{self, OrderFilter};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    body::{Order, OrderList, OrderStatus},
    example, load,
};
use crate::{
    extract::{FromParams, IdPath, IfNoneMatch, PageRequest, Params, Query, TextPath, Timestamp, next_page},
    http::{
        FieldError, JsonResponse, Problem, ProblemCode,
        documented::{LIST, ONE, STORED, problems},
        not_modified,
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(OneProblems: ONE, STORED);
problems!(ListProblems: LIST, STORED);

/// Which orders to list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OrderQuery {
    /// Only those in this status.
    #[param(inline)]
    #[param(value_type = Option<OrderStatus>)]
    status: Option<orders::OrderStatus>,
    /// Only this customer's.
    customer_id: Option<Uuid>,
    #[param(ignore)]
    range: RangeQuery,
}

/// Which part of a list of orders to give.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RangeQuery {
    /// Only those created after this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    created_after: Option<Timestamp>,
    /// Only those created before this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    created_before: Option<Timestamp>,
    /// `next_cursor` of the page before, with the same filter.
    cursor: Option<String>,
    /// How many at most, 1 to 200; 50 if left out.
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
}

impl FromParams for OrderQuery {
    fn from_params(params: &mut Params) -> Self {
        let (status, customer_id) = (params.take("status"), params.take("customer_id"));
        Self { status, customer_id, range: RangeQuery::from_params(params) }
    }
}

impl FromParams for RangeQuery {
    fn from_params(params: &mut Params) -> Self {
        Self {
            created_after: params.take("created_after"),
            created_before: params.take("created_before"),
            cursor: params.text("cursor", 256),
            limit: params.limit(),
        }
    }
}

/// Read an order
///
/// With its lines, its timeline, and the workflow that places it.
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
            headers(("ETag" = String, description = "Its version, for `If-Match`")),
            example = json!(example())
        ),
        (status = 304, description = "The caller has this version already"),
        OneProblems
    )
)]
pub(crate) async fn get_order(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    Query(()): Query<()>,
    seen: IfNoneMatch,
) -> Result<Response, Problem> {
    let order = load(&state, id).await?;
    let version = order.version;
    if seen.has(version) {
        return Ok(not_modified(version));
    }
    Ok(JsonResponse::ok(&Order::from(order))?.version(version).into_response())
}

/// List orders
///
/// Newest first. A cursor goes on after the last order seen, so that orders placed meanwhile neither repeat nor hide any.
///
/// With a status or a time it may have to look at many rows: few such lists are read at a time (503 `overloaded` beyond),
/// each for two seconds at most (503 `timeout`); narrow it then.
#[utoipa::path(
    get,
    path = "/api/orders",
    tag = "orders",
    params(OrderQuery, RangeQuery),
    responses(
        (status = 200, description = "A page of orders", body = OrderList, example = json!(page_of(&example()))),
        ListProblems
    )
)]
pub(crate) async fn list_orders(
    State(state): State<ApiState>,
    Query(query): Query<OrderQuery>,
) -> Result<JsonResponse, Problem> {
    let filter = OrderFilter {
        status: query.status,
        customer_id: query.customer_id,
        created_after: query.range.created_after.map(Into::into),
        created_before: query.range.created_before.map(Into::into),
    };
    page(&state, "orders", filter, &query.range).await
}

/// List a customer's orders
///
/// Newest first. A customer without orders has an empty list.
#[utoipa::path(
    get,
    path = "/api/customers/{customer_id}/orders",
    tag = "orders",
    params(("customer_id" = Uuid, Path, description = "The customer"), RangeQuery),
    responses(
        (status = 200, description = "A page of orders", body = OrderList, example = json!(page_of(&example()))),
        ListProblems
    )
)]
pub(crate) async fn list_customer_orders(
    State(state): State<ApiState>,
    IdPath(customer_id): IdPath,
    Query(range): Query<RangeQuery>,
) -> Result<JsonResponse, Problem> {
    let filter = OrderFilter {
        status: None,
        customer_id: Some(customer_id),
        created_after: range.created_after.map(Into::into),
        created_before: range.created_before.map(Into::into),
    };
    page(&state, "customer-orders", filter, &range).await
}

/// List orders in a status
///
/// Newest first.
///
/// It may have to look at many rows: few such lists are read at a time (503 `overloaded` beyond), each for two seconds at
/// most (503 `timeout`); narrow it then.
#[utoipa::path(
    get,
    path = "/api/orders/status/{status}",
    tag = "orders",
    params(("status" = OrderStatus, Path, description = "The status"), RangeQuery),
    responses(
        (status = 200, description = "A page of orders", body = OrderList, example = json!(page_of(&example()))),
        ListProblems
    )
)]
pub(crate) async fn list_orders_by_status(
    State(state): State<ApiState>,
    TextPath(status): TextPath,
    Query(range): Query<RangeQuery>,
) -> Result<JsonResponse, Problem> {
    let status = status.parse().map_err(|error: String| {
        Problem::fields(
            ProblemCode::InvalidParameter,
            vec![FieldError::parameter("status", "invalid", error)],
        )
    })?;
    let filter = OrderFilter {
        status: Some(status),
        customer_id: None,
        created_after: range.created_after.map(Into::into),
        created_before: range.created_before.map(Into::into),
    };
    page(&state, "orders-by-status", filter, &range).await
}

async fn page(
    state: &ApiState,
    list: &str,
    filter: OrderFilter,
    range: &RangeQuery,
) -> Result<JsonResponse, Problem> {
    let page_request = PageRequest::new(list, &format!("{filter:?}"), range.cursor.as_deref(), range.limit)?;
    let _permit = filter.may_scan().then(|| state.scan_permit()).transpose()?;
    let rows = orders::list(state.pool(), &filter, page_request.engine_page()).await?;
    let (rows, next_cursor) = next_page(rows, &page_request, |order| order.order_id);
    JsonResponse::ok(&OrderList { items: rows.into_iter().map(Into::into).collect(), next_cursor })
}
