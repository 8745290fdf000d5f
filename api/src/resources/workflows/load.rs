//! Reads one saga, for the endpoints of one workflow.

use engine::{SagaId, SagaView};
use uuid::Uuid;

use crate::{http::Problem, state::ApiState};

/// Reads one saga.
///
/// # Errors
/// A 404 when there is none.
pub(crate) async fn load(state: &ApiState, id: Uuid) -> Result<SagaView, Problem> {
    state.engine().saga(SagaId(id)).await?.ok_or_else(|| Problem::not_found("workflow", id))
}
