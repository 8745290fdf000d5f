//! POST `/api/products/bulk`.

use ::workflows::{
    Violation,
    inventory::{self, BULK_MAX, UpsertError, Upserted},
};
use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::NewProduct;
use crate::{
    answer::Answer,
    once::once,
    problem::{
        Code, FieldError, Problem,
        answers::{BODY, KEYED, STORED, problems},
    },
    request::{Actor, BulkJsonBody, IdempotencyKey, Object, Query},
    state::ApiState,
};

problems!(Problems: BODY, KEYED, STORED);

/// Products to be created or changed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProductBatch {
    /// The products. `initial_stock` counts for those whose SKU is new; for the others it is ignored.
    #[schema(min_items = 1, max_items = 1000, value_type = Vec<NewProduct>)]
    pub(crate) items: Vec<Object<NewProduct>>,
}

/// What became of the products, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductBatchResult {
    pub(crate) items: Vec<ProductResult>,
}

/// What became of one product.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductResult {
    #[schema(example = "TEA-1")]
    pub(crate) sku: String,
    pub(crate) outcome: ProductOutcome,
    /// Its id; `null` when it was refused.
    pub(crate) product_id: Option<Uuid>,
    /// What is wrong with it, when it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<ProductProblem>,
}

/// What became of one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProductOutcome {
    /// Its SKU was new.
    Created,
    /// Something else is said about it now.
    Updated,
    /// The same was said about it already.
    Unchanged,
    /// It is wrong and was left out.
    Refused,
}

/// Why one product was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductProblem {
    /// The stable code: match on this.
    #[schema(example = "invalid-body")]
    pub(crate) code: &'static str,
    /// What is wrong, for people.
    pub(crate) detail: String,
    /// Each field that is wrong, by its pointer into the request.
    pub(crate) errors: Vec<FieldError>,
}

/// Create or change many products
///
/// Up to 1,000, by their SKUs: a new one creates a product, a known one replaces what is said about it. Each product has
/// its own result; one that is refused does not concern the others. All that is accepted is one commit. `initial_stock`
/// of a known SKU is ignored, so that sending a file again changes nothing; stock is changed by
/// `PUT /api/products/{product_id}/stock`. The body may have 4 MiB.
#[utoipa::path(
    post,
    path = "/api/products/bulk",
    tag = "inventory",
    params(IdempotencyKey, Actor),
    request_body(content = ProductBatch, example = json!({"items": [
        {"sku": "TEA-1", "name": "Green tea", "category": "tea", "price": 1390, "currency": "EUR"},
        {"sku": "TEA-2", "name": "Black tea", "category": "tea", "price": -1, "currency": "EUR", "initial_stock": 20}
    ]})),
    responses(
        (
            status = 200,
            description = "What became of each",
            body = ProductBatchResult,
            headers(("Idempotent-Replayed" = String, description = "`true` when this is an earlier request's answer")),
            example = json!({"items": [
                {"sku": "TEA-1", "outcome": "updated", "product_id": "0199f3a0-1111-7222-8333-444455556666"},
                {"sku": "TEA-2", "outcome": "refused", "product_id": null, "problem": {
                    "code": "invalid-body",
                    "detail": "must be from 0 to 9223372036854775807",
                    "errors": [{
                        "pointer": "/items/1/price",
                        "code": "out-of-range",
                        "message": "must be from 0 to 9223372036854775807"
                    }]
                }}
            ]})
        ),
        Problems
    )
)]
pub(crate) async fn upsert_products(
    State(state): State<ApiState>,
    Query(()): Query<()>,
    key: IdempotencyKey,
    actor: Actor,
    body: BulkJsonBody<ProductBatch>,
) -> Result<Response, Problem> {
    let BulkJsonBody { value: batch, bytes, place } = body;
    let answer = once(&state, key, "upsert_products", &bytes, async |_| {
        let products: Vec<inventory::NewProduct> =
            batch.items.into_iter().map(|Object(product)| product.into()).collect();
        let upserted = inventory::upsert_products(state.shop(), &products, actor.by("api")).await;
        let upserted = upserted.map_err(|error| match error {
            UpsertError::Count(_) => Problem::field(
                "/items",
                "wrong-length",
                format!("1 to {BULK_MAX} products are taken at once"),
            ),
            UpsertError::Database(error) => error.into(),
        })?;
        let items = products.into_iter().zip(upserted).enumerate();
        let items = items.map(|(nth, (product, upserted))| result(nth, product.sku, upserted));
        Answer::ok(&ProductBatchResult { items: items.collect() })
    })
    .await;
    drop(place);
    answer
}

fn result(nth: usize, sku: String, upserted: Upserted) -> ProductResult {
    let (outcome, product_id, problem) = match upserted {
        Upserted::Created { product_id } => (ProductOutcome::Created, Some(product_id), None),
        Upserted::Updated { product_id } => (ProductOutcome::Updated, Some(product_id), None),
        Upserted::Unchanged { product_id } => (ProductOutcome::Unchanged, Some(product_id), None),
        Upserted::Refused(violations) => (ProductOutcome::Refused, None, Some(problem(nth, violations))),
    };
    ProductResult { sku, outcome, product_id, problem }
}

fn problem(nth: usize, violations: Vec<Violation>) -> ProductProblem {
    let errors: Vec<FieldError> = violations
        .into_iter()
        .map(|wrong| FieldError::at(format!("/items/{nth}{}", wrong.pointer), wrong.code, wrong.message))
        .collect();
    let detail = match errors.as_slice() {
        [one] => one.message.clone(),
        many => format!("{} things are wrong; see `errors`", many.len()),
    };
    ProductProblem { code: Code::InvalidBody.name(), detail, errors }
}
