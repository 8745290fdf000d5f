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
        documented::{LIST, STORED, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(ListProblems: LIST, STORED);

/// List products that are low
///
/// Those of which no more are available than their threshold says, newest first.
///
/// It may have to look at many rows: few such lists are read at a time (503 `overloaded` beyond), each for two seconds at
/// most (503 `timeout`); narrow it then.
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
