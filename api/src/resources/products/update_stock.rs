//! PUT `/api/products/{product_id}/stock`.

use axum::extract::State;
use shop::commands::{self, StockChange};

use super::body::{Product, StockUpdate, example};
use crate::{
    extract::{Actor, IdPath, IfMatch, JsonBody, NoQuery},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    resources::versioned::change,
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, RESOURCE_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::StockTooLow, ProblemCode::StockReserved, ProblemCode::PreconditionFailed]);

/// Change a product's stock
///
/// `{"set": 40, "reason": "count"}` or `{"adjust": -3, "reason": "damaged"}`. The change is an entry of the ledger. The
/// stock on hand can't fall below zero, nor below the reserved stock. `adjust` is not idempotent: send `If-Match` to
/// make repeating it harmless.
#[utoipa::path(
    put,
    path = "/api/products/{product_id}/stock",
    tag = "inventory",
    params(("product_id" = uuid::Uuid, Path, description = "The product"), IfMatch, Actor),
    request_body(content = StockUpdate, examples(
        ("set" = (summary = "As counted", value = json!({"set": 40, "reason": "count"}))),
        ("adjust" = (summary = "More or fewer", value = json!({"adjust": -3, "reason": "damaged"})))
    )),
    responses(
        (
            status = 200,
            description = "The product as it is now",
            body = Product,
            headers(("ETag" = String, description = "The new version of the resource")),
            example = json!(example())
        ),
        Problems
    )
)]
pub(crate) async fn update_stock(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    condition: IfMatch,
    actor: Actor,
    JsonBody { value: update, .. }: JsonBody<StockUpdate>,
) -> Result<JsonResponse, Problem> {
    let stock = stock_change(&update)?;
    change(&state, &id, condition, async |expected| {
        commands::change_stock(state.shop(), id, stock, &update.reason, actor.audited_or("api"), expected)
            .await
    })
    .await
}

fn stock_change(update: &StockUpdate) -> Result<StockChange, Problem> {
    match (update.set, update.adjust) {
        (Some(on_hand), None) => Ok(StockChange::Set(on_hand)),
        (None, Some(delta)) => Ok(StockChange::Adjust(delta)),
        (None, None) => Err(Problem::field("/set", "missing-field", "give either `set` or `adjust`")),
        (Some(_), Some(_)) => {
            Err(Problem::field("/adjust", "contradiction", "give `set` or `adjust`, not both"))
        }
    }
}
