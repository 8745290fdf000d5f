//! GET `/api/products/{product_id}`.

use axum::{extract::State, response::Response};

use shop::inventory;

use super::body::{Product, example};
use crate::{
    extract::{IdPath, IfNoneMatch, NoQuery},
    http::{
        Problem,
        documented::{DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    resources::versioned::read,
    state::ApiState,
};

problems!(OneProblems: RESOURCE_PROBLEMS, DATABASE_PROBLEMS);

/// Read a product
///
/// Returns a product with its stock. The `ETag` changes with the stock, too.
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
            headers(("ETag" = String, description = "The version of the resource, for `If-Match`")),
            example = json!(example())
        ),
        (status = 304, description = "The caller has this version already"),
        OneProblems
    )
)]
pub(crate) async fn get_product(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    seen: IfNoneMatch,
) -> Result<Response, Problem> {
    read::<inventory::Product>(&state, &id, seen).await
}
