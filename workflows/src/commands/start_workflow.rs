//! Starts sagas of any definition because a person asks for it, with the record of who did.

use engine::{NewSaga, StartError, Started, StepError};
use serde_json::Value;

use super::shop::Shop;
use crate::support::audit::{self, AuditActor, AuditEntry};

/// A saga that somebody asked for was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartWorkflowError {
    /// It was refused, or can't be started now.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The database refused or is away; the saga may have been started.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Starts a saga, and records in the same commit who asked for it and what for (`request`): no start is without its record,
/// and there is no record of one that was refused or had been made before.
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
        error @ (StepError::Start(_) | StepError::Other(_)) => unavailable(&error.to_string()),
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
