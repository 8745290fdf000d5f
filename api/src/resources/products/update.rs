//! PUT `/api/products/{product_id}`.

use axum::extract::State;
use shop::{commands, inventory::ProductDetails};

use super::body::{Product, example};
use crate::{
    extract::{Actor, IdPath, IfMatch, JsonBody, NoQuery},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    resources::versioned::change,
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, RESOURCE_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::PreconditionFailed]);

/// Change a product
///
/// Replaces all details of a product: omitted fields become empty. The SKU stays; the stock on hand is changed by `PUT
/// …/stock`. Orders keep the name and the price with which they were placed. A threshold that is no longer below the
/// available stock makes the stock low, with the same event and mail as if it had been sold.
#[utoipa::path(
    put,
    path = "/api/products/{product_id}",
    tag = "inventory",
    params(("product_id" = uuid::Uuid, Path, description = "The product"), IfMatch, Actor),
    request_body(content = ProductDetails, example = json!({
        "name": "Green tea",
        "description": "Sencha, 100 g",
        "category": "tea",
        "price": 1390,
        "currency": "EUR",
        "low_stock_threshold": 5
    })),
    responses(
        (
            status = 200,
            description = "The product as it is now",
            body = Product,
            headers(("ETag" = String, description = "The version of the resource; the old one if nothing has changed")),
            example = json!(example())
        ),
        Problems
    )
)]
pub(crate) async fn update_product(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    condition: IfMatch,
    actor: Actor,
    JsonBody { value: update, .. }: JsonBody<ProductDetails>,
) -> Result<JsonResponse, Problem> {
    change(&state, &id, condition, async |expected| {
        commands::update_product(state.shop(), id, &update, actor.audited_or("api"), expected).await
    })
    .await
}
