//! Starts sagas of any definition at a person's request, with an audit record.

use engine::{NewSaga, StartError, Started, StepError};
use serde_json::Value;

use super::shop::Shop;
use crate::support::audit::{self, AuditActor, AuditEntry};

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

/// Starts a saga, and records in the same commit who asked for it and the `request`. A refused start gets no record,
/// and a saga that exists already gets no second one.
///
/// # Errors
/// See [`StartWorkflowError`].
///
/// # Cancel safety
/// A dropped call may still have started the saga.
pub async fn start_workflow(
    shop: &Shop,
    saga: NewSaga,
    request: Value,
    by: impl Into<AuditActor<'_>>,
) -> Result<Started, StartWorkflowError> {
    let mut tx = shop.pool().begin().await?;
    let answers = shop.engine().start_in(&mut tx, vec![saga]).await.map_err(|error| match error {
        StepError::Database(error) => StartWorkflowError::Database(error),
        error @ (StepError::Start(_) | StepError::OutputTooLarge(_) | StepError::Other(_)) => {
            unavailable(&error.to_string())
        }
    })?;
    let started = answers.into_iter().next().ok_or_else(|| unavailable("no answer"))??;
    if !started.existing {
        let subject = started.saga_id.to_string();
        let change = AuditEntry::new("workflow.start", "workflow", &subject).after(request);
        audit::record(&mut tx, &by.into(), &[change]).await?;
    }
    tx.commit().await?;
    Ok(started)
}

fn unavailable(reason: &str) -> StartWorkflowError {
    StartError::Unavailable(reason.to_owned()).into()
}
