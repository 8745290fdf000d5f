//! GET `/api/orders/{order_id}/returns`.

use axum::extract::State;
use shop::returns::ReturnFilter;

use super::{
    body::{OrderReturnList, example},
    listing::{PageQuery, page},
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

/// List the returns of an order
///
/// Lists the returns of an order, newest first. An order without returns has an empty list.
#[utoipa::path(
    get,
    path = "/api/orders/{order_id}/returns",
    tag = "returns",
    params(("order_id" = Uuid, Path, description = "The order"), PageQuery),
    responses(
        (status = 200, description = "A page of returns", body = OrderReturnList, example = json!(page_of(&example()))),
        ListProblems
    )
)]
pub(crate) async fn list_order_returns(
    State(state): State<ApiState>,
    IdPath(order_id): IdPath,
    Query(query): Query<PageQuery>,
) -> Result<JsonResponse, Problem> {
    page(&state, "order-returns", ReturnFilter { status: None, order_id: Some(order_id) }, &query).await
}
