//! Reads one order, for the endpoints of one order.

use shop::orders::{self, Order};
use uuid::Uuid;

use crate::{http::Problem, state::ApiState};

/// Reads one order.
///
/// # Errors
/// A 404 when there is none.
pub(super) async fn load(state: &ApiState, id: Uuid) -> Result<Order, Problem> {
    let order = orders::get(state.pool(), id).await?;
    order.ok_or_else(|| Problem::not_found("order", id))
}
