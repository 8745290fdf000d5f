//! GET `/api/products/low-stock`.

use axum::extract::State;
use shop::inventory::{ProductFilter, StockState};

use super::{
    body::{ProductList, example},
    listing::page,
};
use crate::{
    extract::{CursorQuery, Query},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(ListProblems: LIST_PROBLEMS, DATABASE_PROBLEMS);

/// List products with low stock
///
/// Lists products of which no more are available than their threshold, newest first.
///
/// The list may scan many rows: few such lists run at a time (503 `overloaded` beyond that), each for two seconds at
/// most (503 `timeout`).
#[utoipa::path(
    get,
    path = "/api/products/low-stock",
    tag = "inventory",
    params(CursorQuery),
    responses(
        (status = 200, description = "A page of products", body = ProductList, example = json!(page_of(&example()))),
        ListProblems
    )
)]
pub(crate) async fn list_low_stock_products(
    State(state): State<ApiState>,
    Query(query): Query<CursorQuery>,
) -> Result<JsonResponse, Problem> {
    let filter = ProductFilter { stock: Some(StockState::Low), ..ProductFilter::default() };
    page(&state, &filter, &query.page_request("low-stock", "")?).await
}
