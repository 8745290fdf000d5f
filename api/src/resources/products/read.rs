//! GET of one product and of lists of them.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use shop::inventory::{self, ProductFilter, StockState};
use utoipa::IntoParams;

use super::{
    body::{Product, ProductList},
    example, load,
};
use crate::{
    extract::{
        CursorQuery, FromParams, IdPath, IfNoneMatch, PageRequest, Params, Query, TextPath, next_page,
    },
    http::{
        JsonResponse, Problem,
        documented::{LIST, ONE, STORED, problems},
        not_modified,
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(OneProblems: ONE, STORED);
problems!(ListProblems: LIST, STORED);

/// Which products to list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProductQuery {
    /// Only those whose name or SKU contains this, whatever the case.
    #[param(max_length = 200)]
    search: Option<String>,
    /// Only those in this category.
    #[param(max_length = 64)]
    category: Option<String>,
    /// `next_cursor` of the page before, with the same filter.
    cursor: Option<String>,
    /// How many at most, 1 to 200; 50 if left out.
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

/// Read a product
///
/// With its stock. The `ETag` changes with the stock too.
#[utoipa::path(
    get,
    path = "/api/products/{product_id}",
    tag = "inventory",
    params(("product_id" = uuid::Uuid, Path, description = "The product"), IfNoneMatch),
    responses(
        (
            status = 200,
            description = "The product",
            body = Product,
            headers(("ETag" = String, description = "Its version, for `If-Match`")),
            example = json!(example())
        ),
        (status = 304, description = "The caller has this version already"),
        OneProblems
    )
)]
pub(crate) async fn get_product(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    Query(()): Query<()>,
    seen: IfNoneMatch,
) -> Result<Response, Problem> {
    let product = load(&state, id).await?;
    let version = product.version;
    if seen.has(version) {
        return Ok(not_modified(version));
    }
    Ok(JsonResponse::ok(&Product::from(product))?.version(version).into_response())
}

/// List products
///
/// Newest first; searched by name or SKU, or narrowed to a category.
///
/// A search may have to look at many rows: few such lists are read at a time (503 `overloaded` beyond), each for two
/// seconds at most (503 `timeout`); narrow it then.
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

/// List a category's products
///
/// Newest first. A category without products has an empty list.
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

async fn page(
    state: &ApiState,
    filter: &ProductFilter,
    page_request: &PageRequest,
) -> Result<JsonResponse, Problem> {
    let _permit = filter.may_scan().then(|| state.scan_permit()).transpose()?;
    let rows = inventory::products(state.pool(), filter, page_request.engine_page()).await?;
    let (rows, next_cursor) = next_page(rows, page_request, |product| product.product_id);
    JsonResponse::ok(&ProductList { items: rows.into_iter().map(Into::into).collect(), next_cursor })
}
