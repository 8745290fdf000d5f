//! POST `/api/products`.

use axum::{extract::State, response::Response};
use http::StatusCode;
use shop::commands::{self, CreateProductError};

use super::body::{NewProduct, Product, example};
use crate::{
    extract::{Actor, JsonBody, Query},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY, KEYED, STORED, problems},
        invalid,
    },
    idempotency::IdempotencyKey,
    state::ApiState,
};

problems!(Problems: BODY, KEYED, STORED, &[ProblemCode::SkuTaken]);

/// Create a product
///
/// Its SKU has to be free. What is there initially is the first movement of its ledger. One that has little from the
/// beginning is listed as low, but has not fallen: there is no `inventory.low` and no mail until it was above its
/// threshold.
#[utoipa::path(
    post,
    path = "/api/products",
    tag = "inventory",
    params(IdempotencyKey, Actor),
    request_body(content = NewProduct, example = json!({
        "sku": "TEA-1",
        "name": "Green tea",
        "description": "Sencha, 100 g",
        "category": "tea",
        "price": 1290,
        "currency": "EUR",
        "initial_stock": 50,
        "low_stock_threshold": 5
    })),
    responses(
        (
            status = 201,
            description = "The product",
            body = Product,
            headers(
                ("Location" = String, description = "Where the product is"),
                ("ETag" = String, description = "Its version, for `If-Match`"),
                ("Idempotent-Replayed" = String, description = "`true` when this is an earlier request's answer")
            ),
            example = json!(example())
        ),
        Problems
    )
)]
pub(crate) async fn create_product(
    State(state): State<ApiState>,
    Query(()): Query<()>,
    key: IdempotencyKey,
    actor: Actor,
    body: JsonBody<NewProduct>,
) -> Result<Response, Problem> {
    let JsonBody { value: new, bytes } = body;
    state
        .idempotency()
        .run(key, "create_product", &bytes, async |product_id| {
            let sku = new.sku.clone();
            let created =
                commands::create_product_as(state.pool(), product_id, new.into(), actor.by("api")).await;
            let product = created.map_err(|error| match error {
                CreateProductError::SkuTaken => {
                    Problem::new(ProblemCode::SkuTaken, format!("the SKU `{sku}` is taken"))
                }
                CreateProductError::Invalid(violations) => invalid(violations),
                CreateProductError::Database(error) => error.into(),
            })?;
            let (location, version) = (format!("/api/products/{}", product.product_id), product.version);
            Ok(JsonResponse::new(StatusCode::CREATED, &Product::from(product))?
                .location(location)
                .version(version))
        })
        .await
}
