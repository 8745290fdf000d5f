//! GET `/api/products`.

use axum::extract::State;
use shop::inventory::ProductFilter;
use utoipa::IntoParams;

use super::{
    body::{ProductList, example},
    listing::page,
};
use crate::{
    extract::{FromParams, PageRequest, Params, Query},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(ListProblems: LIST_PROBLEMS, DATABASE_PROBLEMS);

/// Which products to list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProductQuery {
    /// Only those whose name or SKU contains this text, in any case.
    #[param(max_length = 200)]
    search: Option<String>,
    /// Only those in this category.
    #[param(max_length = 64)]
    category: Option<String>,
    /// `next_cursor` of the page before, with the same filter.
    cursor: Option<String>,
    /// How many at most, 1 to 200; 50 by default.
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
}

impl FromParams for ProductQuery {
    fn from_params(params: &mut Params) -> Self {
        Self {
            search: params.text("search", 200),
            category: params.text("category", 64),
            cursor: params.text("cursor", 256),
            limit: params.limit(),
        }
    }
}

/// List products
///
/// Lists products, newest first; all of them, those of a category, or those found by name or SKU.
///
/// A search may scan many rows: few such lists run at a time (503 `overloaded` beyond that), each for two seconds at
/// most (503 `timeout`). Narrow the search then.
#[utoipa::path(
    get,
    path = "/api/products",
    tag = "inventory",
    params(ProductQuery),
    responses(
        (status = 200, description = "A page of products", body = ProductList, example = json!(page_of(&example()))),
        ListProblems
    )
)]
pub(crate) async fn list_products(
    State(state): State<ApiState>,
    Query(query): Query<ProductQuery>,
) -> Result<JsonResponse, Problem> {
    let filter = ProductFilter { search: query.search, category: query.category, stock: None };
    let page_request =
        PageRequest::new("products", &format!("{filter:?}"), query.cursor.as_deref(), query.limit)?;
    page(&state, &filter, &page_request).await
}
