//! POST `/api/products/bulk`.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use shop::{
    Violation, bounds,
    commands::{self, BulkItem, ListedProduct, MAX_BULK_PRODUCTS, UpsertError, Upserted},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    extract::{Actor, BulkJsonBody, NoQuery, RawItems},
    http::{
        FieldError, JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, IDEMPOTENCY_PROBLEMS, problems},
    },
    idempotency::IdempotencyKey,
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, IDEMPOTENCY_PROBLEMS, DATABASE_PROBLEMS);

/// Products to be created or changed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProductBatch {
    /// The products.
    #[schema(min_items = 1, max_items = 1000, value_type = Vec<ListedProduct>)]
    pub(crate) items: RawItems<MAX_BULK_PRODUCTS>,
}

/// The results, in the order of the products.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductBatchResult {
    pub(crate) items: Vec<ProductResult>,
}

/// The result for one product.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductResult {
    /// The SKU; `null` when the product was refused and its SKU is missing or malformed.
    #[schema(example = "TEA-1")]
    pub(crate) sku: Option<String>,
    pub(crate) outcome: ProductOutcome,
    /// The id of the product; `null` when it was refused.
    pub(crate) product_id: Option<Uuid>,
    /// Why the product was refused; `null` when it was not.
    pub(crate) problem: Option<ProductProblem>,
}

/// What was done with one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProductOutcome {
    /// The SKU was new.
    Created,
    /// Some details have changed.
    Updated,
    /// All details were the same already.
    Unchanged,
    /// The product is invalid and was left out.
    Refused,
}

/// Why one product was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductProblem {
    pub(crate) code: ProblemCode,
    /// What is wrong, for people.
    pub(crate) detail: String,
    /// Every field that is wrong, with its pointer into the request.
    pub(crate) errors: Vec<FieldError>,
}

/// Create or change many products
///
/// Takes up to 1,000 products, by SKU. A new SKU creates a product. For an existing SKU, name, category, price and
/// currency are replaced, and so are `description` and `low_stock_threshold` if they are given: **omitted fields stay
/// as they are**, so that a price list turns off no alarm. (`PUT /api/products/{product_id}` replaces everything.)
/// `initial_stock` is ignored for an existing SKU, so that sending a file again changes nothing; stock is changed by
/// `PUT /api/products/{product_id}/stock`.
///
/// Each product has its own result, in the same order. A product that is invalid, or can't even be decoded, is
/// `refused` and does not affect the others; only a body without a list of 1 to 1,000 products is refused as a whole.
/// All accepted products are one transaction. The body may have 4 MiB.
#[utoipa::path(
    post,
    path = "/api/products/bulk",
    tag = "inventory",
    params(IdempotencyKey, Actor),
    request_body(content = ProductBatch, example = json!({"items": [
        {"sku": "TEA-1", "name": "Green tea", "category": "tea", "price": 1390, "currency": "EUR"},
        {
            "sku": "TEA-2", "name": "Black tea", "description": "Assam, 100 g", "category": "tea", "price": 1490,
            "currency": "EUR", "initial_stock": 20, "low_stock_threshold": 5
        },
        {"sku": "TEA-2", "name": "Black tea", "category": "tea", "price": 1590, "currency": "EUR"}
    ]})),
    responses(
        (
            status = 200,
            description = "The result for each product",
            body = ProductBatchResult,
            headers(("Idempotent-Replayed" = String, description = "`true` when this is the response of an earlier request")),
            example = json!({"items": [
                {
                    "sku": "TEA-1", "outcome": "updated", "product_id": "0199f3a0-1111-7222-8333-444455556666",
                    "problem": null
                },
                {
                    "sku": "TEA-2", "outcome": "created", "product_id": "0199f3a0-1111-7222-8333-444455556667",
                    "problem": null
                },
                {"sku": "TEA-2", "outcome": "refused", "product_id": null, "problem": {
                    "code": "invalid-body",
                    "detail": "item 1 of this request has this SKU already",
                    "errors": [{
                        "pointer": "/items/2/sku",
                        "code": "duplicate-sku",
                        "message": "item 1 of this request has this SKU already"
                    }]
                }}
            ]})
        ),
        Problems
    )
)]
pub(crate) async fn upsert_products(
    State(state): State<ApiState>,
    _: NoQuery,
    key: IdempotencyKey,
    actor: Actor,
    body: BulkJsonBody<ProductBatch>,
) -> Result<Response, Problem> {
    let BulkJsonBody { value: batch, bytes, permits } = body;
    let answer = state
        .idempotency()
        .run(key, "upsert_products", &bytes, async |_| {
            let (skus, items) = read(&batch.items);
            let upserted = commands::upsert_products(state.shop(), &items, actor.audited_or("api")).await;
            let upserted = upserted.map_err(|error| match error {
                UpsertError::Count(_) => Problem::field(
                    "/items",
                    "wrong-length",
                    format!("1 to {MAX_BULK_PRODUCTS} products are taken at once"),
                ),
                UpsertError::Database(error) => error.into(),
            })?;
            let items = skus.into_iter().zip(upserted).enumerate();
            let items = items.map(|(nth, (sku, upserted))| result(nth, sku, upserted));
            JsonResponse::ok(&ProductBatchResult { items: items.collect() })
        })
        .await;
    drop(permits);
    answer
}

/// Decodes the items one by one; of malformed ones it reads the SKU, if there is one.
fn read(items: &RawItems<MAX_BULK_PRODUCTS>) -> (Vec<Option<String>>, Vec<BulkItem>) {
    #[derive(Deserialize)]
    struct Named {
        sku: String,
    }
    let read = items.read::<ListedProduct>().map(|(raw, item)| match item {
        Ok(product) => (Some(product.sku.clone()), Ok(product)),
        Err(problem) => {
            let named = serde_json::from_str::<Named>(raw.get()).ok().map(|named| named.sku);
            (named, Err(problem.into_errors().into_iter().map(violation).collect()))
        }
    });
    // A longer text is not repeated in the result.
    let short = |sku: &String| sku.chars().count() <= bounds::SKU.max;
    read.map(|(sku, item)| (sku.filter(short), item)).unzip()
}

fn violation(error: FieldError) -> Violation {
    Violation { pointer: error.pointer.unwrap_or_default(), code: error.code, message: error.message }
}

fn result(nth: usize, sku: Option<String>, upserted: Upserted) -> ProductResult {
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
    ProductProblem { code: ProblemCode::InvalidBody, detail, errors }
}
