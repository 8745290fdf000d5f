//! GET `/api/orders`.

use axum::extract::State;
use shop::orders::{self, OrderFilter};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    body::{OrderList, OrderStatus, example},
    listing::{RangeQuery, page},
};
use crate::{
    extract::{FromParams, Params, Query},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(ListProblems: LIST_PROBLEMS, DATABASE_PROBLEMS);

/// Which orders to list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OrderQuery {
    /// Only those in this status.
    #[param(value_type = OrderStatus, required = false)]
    status: Option<orders::OrderStatus>,
    /// Only those of this customer.
    customer_id: Option<Uuid>,
    #[param(ignore)]
    range: RangeQuery,
}

impl FromParams for OrderQuery {
    fn from_params(params: &mut Params) -> Self {
        let (status, customer_id) = (params.take("status"), params.take("customer_id"));
        Self { status, customer_id, range: RangeQuery::from_params(params) }
    }
}

/// List orders
///
/// Lists orders, newest first. A cursor continues after the last order of the page before, so that orders placed in
/// between neither repeat nor hide others.
///
/// With a status, or with a customer and a time, the list may have to look at many orders: few such lists are read at a
/// time (503 `overloaded` beyond that), each for two seconds at most (503 `timeout`). Narrow the filter then.
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
