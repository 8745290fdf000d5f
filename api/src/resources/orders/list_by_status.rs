//! GET `/api/orders/status/{status}`.

use axum::extract::State;
use shop::orders::OrderFilter;

use super::{
    body::{OrderList, OrderStatus, example},
    listing::{RangeQuery, page},
};
use crate::{
    extract::{Query, TextPath},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(ListProblems: LIST_PROBLEMS, DATABASE_PROBLEMS);

/// List orders in a status
///
/// Lists orders, newest first. A list of `pending` or `confirmed` orders, or one with a time, may have to look at many: few such
/// lists run at a time (503 `overloaded` beyond that), each for two seconds at most (503 `timeout`).
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
    let status = status.parse().map_err(|error: String| Problem::parameter("status", error))?;
    let filter = OrderFilter {
        status: Some(status),
        customer_id: None,
        created_after: range.created_after.map(Into::into),
        created_before: range.created_before.map(Into::into),
    };
    page(&state, "orders-by-status", filter, &range).await
}
