//! Reads one product, for the endpoints of one product.

use shop::inventory::{self, Product};
use uuid::Uuid;

use crate::{http::Problem, state::ApiState};

/// Reads one product.
///
/// # Errors
/// A 404 when there is none.
pub(super) async fn load(state: &ApiState, id: Uuid) -> Result<Product, Problem> {
    let product = inventory::product(state.pool(), id).await?;
    product.ok_or_else(|| Problem::not_found("product", id))
}
