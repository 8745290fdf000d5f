//! GET `/api/products/category/{category}`.

use axum::extract::State;
use shop::inventory::ProductFilter;

use super::{
    body::{ProductList, example},
    listing::page,
};
use crate::{
    extract::{CursorQuery, Query, TextPath},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(ListProblems: LIST_PROBLEMS, DATABASE_PROBLEMS);

/// List a category's products
///
/// Lists the products of a category, newest first. A category without products has an empty list.
#[utoipa::path(
    get,
    path = "/api/products/category/{category}",
    tag = "inventory",
    params(("category" = String, Path, description = "The category, as it is written"), CursorQuery),
    responses(
        (status = 200, description = "A page of products", body = ProductList, example = json!(page_of(&example()))),
        ListProblems
    )
)]
pub(crate) async fn list_products_by_category(
    State(state): State<ApiState>,
    TextPath(category): TextPath,
    Query(query): Query<CursorQuery>,
) -> Result<JsonResponse, Problem> {
    let filter = ProductFilter { category: Some(category), ..ProductFilter::default() };
    page(&state, &filter, &query.page_request("products-by-category", &format!("{filter:?}"))?).await
}
