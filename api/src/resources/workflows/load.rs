//! Reads one saga, for the endpoints of one workflow.

use chrono::{DateTime, SecondsFormat, Utc};
use engine::{ListError, SagaId};
use uuid::Uuid;

use super::body::Workflow;
use crate::{
    http::{Problem, ProblemCode},
    state::ApiState,
};

/// Reads one workflow with its input, its result and how far its children are.
///
/// # Errors
/// A 404 when there is none.
pub(crate) async fn load(state: &ApiState, id: Uuid) -> Result<Workflow, Problem> {
    let saga = state.engine().saga_with_payload(SagaId(id)).await?.ok_or_else(|| missing(state, id))?;
    let children = match state.engine().children_of(SagaId(id)).await {
        Ok(children) => Some(children),
        // What else is known of it, and what was done to it before, has to be answered all the same.
        Err(ListError::Timeout) => None,
        Err(ListError::Database(error)) => return Err(error.into()),
    };
    Ok(Workflow::new(saga, children))
}

/// A workflow that does not exist, or not any more.
pub(crate) fn missing(state: &ApiState, id: Uuid) -> Problem {
    Problem::missing_workflow(id, state.engine().retention().extent())
}

/// A business key whose workflow was deleted, and that starts no other yet.
pub(super) fn key_of_deleted(id: SagaId, kept_until: DateTime<Utc>) -> Problem {
    let until = kept_until.to_rfc3339_opts(SecondsFormat::Secs, true);
    Problem::new(
        ProblemCode::BusinessKeyUsed,
        format!(
            "workflow {id} had this business key; it ended and was deleted, and the key is kept until {until}"
        ),
    )
}
