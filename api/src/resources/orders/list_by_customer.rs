//! GET `/api/customers/{customer_id}/orders`.

use axum::extract::State;
use shop::orders::OrderFilter;

use super::{
    body::{OrderList, example},
    listing::{RangeQuery, page},
};
use crate::{
    extract::{IdPath, Query},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(ListProblems: LIST_PROBLEMS, DATABASE_PROBLEMS);

/// List a customer's orders
///
/// Lists the orders of a customer, newest first. A customer without orders has an empty list.
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
