//! Starts sagas of any definition at a person's request, with an audit record.

use engine::{NewSaga, SagaId, Signal, StartError, Started, StepError};
use serde_json::{Value, json};

use super::shop::Shop;
use crate::{
    sagas::{Subject, set_actor},
    support::audit::{self, AuditActor, AuditEntry},
};

/// A requested saga was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartWorkflowError {
    /// The start was refused, or is not possible now.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The database refused or can't be reached; the saga may have been started.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// A saga that a person wants to start.
#[derive(Clone, Debug)]
pub struct WorkflowStart<'a> {
    /// The id that it gets.
    pub saga_id: SagaId,
    /// The name of its definition.
    pub definition: &'a str,
    /// Its input. If that has an actor, it is replaced by the caller.
    pub input: Value,
    /// Its business key.
    pub business_key: Option<&'a str>,
    /// A signal that is sent with the start, to it or to the existing one with this business key.
    pub signal: Option<Signal>,
    /// The W3C `traceparent` that it joins.
    pub trace: Option<String>,
}

/// Starts a saga, and records in the same commit who asked for it. The subject of the record is the order that the
/// input names, or else the saga. A refused start gets no record, and a saga that exists already gets no second one.
///
/// # Errors
/// See [`StartWorkflowError`].
///
/// # Cancel safety
/// A dropped call may still have started the saga.
pub async fn start_workflow(
    shop: &Shop,
    start: WorkflowStart<'_>,
    by: impl Into<AuditActor<'_>>,
) -> Result<Started, StartWorkflowError> {
    let by = by.into();
    let WorkflowStart { saga_id, definition, mut input, business_key, signal, trace } = start;
    set_actor(definition, &mut input, by.actor);
    let saga = NewSaga::untyped(definition, &input).id(saga_id).trace(trace);
    let saga = match business_key {
        Some(key) => saga.business_key(key),
        None => saga,
    };
    let saga = match signal {
        Some(signal) => saga.signal(signal.sender(by.actor)),
        None => saga,
    };
    let mut tx = shop.pool().begin().await?;
    let answers = shop.engine().start_in(&mut tx, vec![saga]).await.map_err(|error| match error {
        StepError::Database(error) => StartWorkflowError::Database(error),
        error @ (StepError::Start(_) | StepError::OutputTooLarge(_) | StepError::Other(_)) => {
            unavailable(&error.to_string())
        }
    })?;
    let started = answers.into_iter().next().ok_or_else(|| unavailable("no answer"))??;
    if !started.existing {
        let Subject { kind, id } = Subject::of(definition, &input, started.saga_id);
        let after =
            json!({"definition": definition, "business_key": business_key, "workflow_id": started.saga_id});
        let change = AuditEntry::new("workflow.start", kind, &id).after(after);
        audit::record(&mut tx, &by, &[change]).await?;
    }
    tx.commit().await?;
    Ok(started)
}

fn unavailable(reason: &str) -> StartWorkflowError {
    StartError::Unavailable(reason.to_owned()).into()
}
