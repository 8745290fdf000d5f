//! POST `/api/products`.

use axum::{extract::State, response::Response};
use http::StatusCode;
use shop::{
    commands::{self, CreateProductError},
    inventory::NewProduct,
};

use super::body::{Product, example};
use crate::{
    extract::{Actor, JsonBody, NoQuery},
    http::{
        Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, ETAG, IDEMPOTENCY_PROBLEMS, created, problems},
        invalid,
    },
    idempotency::IdempotencyKey,
    resources::versioned::respond,
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, IDEMPOTENCY_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::SkuTaken]);
created!(Created: 201 Product, "The product", example(), [ETAG]);

/// Create a product
///
/// The SKU must be new. The initial stock is the first entry of the ledger. A product whose initial stock is low is
/// listed as low, but it has not become low: there is no `inventory.low` event and no mail until its stock was above
/// the threshold once.
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
        Created,
        Problems
    )
)]
pub(crate) async fn create_product(
    State(state): State<ApiState>,
    _: NoQuery,
    key: IdempotencyKey,
    actor: Actor,
    body: JsonBody<NewProduct>,
) -> Result<Response, Problem> {
    let JsonBody { value: new, bytes, .. } = body;
    state
        .idempotency()
        .run(key, "create_product", &bytes, async |product_id| {
            let sku = new.sku.clone();
            let created =
                commands::create_product_as(state.pool(), product_id, new, actor.audited_or("api")).await;
            let product = created.map_err(|error| match error {
                CreateProductError::SkuTaken => {
                    Problem::new(ProblemCode::SkuTaken, format!("the SKU `{sku}` is taken"))
                }
                CreateProductError::Invalid(violations) => invalid(violations),
                CreateProductError::Database(error) => error.into(),
            })?;
            let location = format!("/api/products/{}", product.product_id);
            Ok(respond(StatusCode::CREATED, product)?.location(location))
        })
        .await
}
