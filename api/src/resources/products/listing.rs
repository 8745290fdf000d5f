//! A page of any list of products.

use shop::inventory::{self, ProductFilter};

use super::body::ProductList;
use crate::{
    extract::PageRequest,
    http::{JsonResponse, Problem},
    state::ApiState,
};

/// Answers with a page of products.
///
/// # Errors
/// A 503 when too many such lists are read.
pub(super) async fn page(
    state: &ApiState,
    filter: &ProductFilter,
    page_request: &PageRequest,
) -> Result<JsonResponse, Problem> {
    let _permit = state.list_permit(filter.may_scan())?;
    let rows = inventory::products(state.pool(), filter, page_request.engine_page()).await?;
    JsonResponse::ok(&ProductList::of(rows, page_request, |product| product.product_id))
}
