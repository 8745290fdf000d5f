//! Conversions into problems: errors of the database, the engine and the shop.

use std::convert::Infallible;

use engine::{CancelError, DeadJobError, DeadJobId, SignalError, SkipWaitError, StartError};
use shop::{
    ListError, Violation,
    commands::{CancelRefusal, IllegalStatus, ReturnRefusal, StockRefusal},
};

use super::{problem::Problem, problem_body::FieldError, problem_code::ProblemCode};

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        let cause = engine::ErrorChain(&error).to_string();
        if engine::is_transient(&error) { Self::unavailable(cause) } else { Self::internal(cause) }
    }
}

impl From<ListError> for Problem {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Timeout => Self::new(ProblemCode::Timeout, error.to_string()),
            ListError::Database(error) => error.into(),
        }
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        match error {
            StartError::UnknownDefinition(name) => Self::field(
                "/definition",
                "unknown",
                format!("no workflow is named `{name}`; GET /api/workflow-definitions lists them"),
            ),
            StartError::BadInput { pointer, reason } => {
                Self::field(format!("/input{pointer}"), "invalid", reason)
            }
            error @ StartError::InputTooLarge { .. } => Self::field("/input", "too-large", error.to_string()),
            StartError::Refused(failure) => {
                let errors = violations(&failure.details);
                Self { errors, ..Self::new(ProblemCode::Refused, failure.message) }
            }
            StartError::Unavailable(reason) => Self::unavailable(reason),
        }
    }
}

impl From<CancelError> for Problem {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::NotFound(id) => Self::not_found("workflow", id),
            CancelError::PastPivot { .. } => Self::new(ProblemCode::PastPivot, error.to_string()),
            CancelError::RefusedByObserver(reason) => Self::internal(reason),
            CancelError::Ended(_) => Self::new(ProblemCode::WorkflowEnded, error.to_string()),
            CancelError::Database(error) => error.into(),
        }
    }
}

impl From<SignalError> for Problem {
    fn from(error: SignalError) -> Self {
        match error {
            SignalError::NotFound(id) => Self::not_found("workflow", id),
            SignalError::NoSuchKey { .. } => Self::new(ProblemCode::NotFound, error.to_string()),
            SignalError::UnknownSignal { .. } => Self::new(ProblemCode::UnknownSignal, error.to_string()),
            SignalError::Ended(_) => Self::new(ProblemCode::TakesNoSignals, error.to_string()),
            SignalError::TooMany => Self::new(ProblemCode::TooManySignals, error.to_string()),
            SignalError::BadMessage { pointer, reason } => {
                Self::field(format!("/message{pointer}"), "invalid", reason)
            }
            SignalError::TooLarge { .. } => Self::new(ProblemCode::BodyTooLarge, error.to_string()),
            SignalError::KeyReused(_) => Self::new(ProblemCode::SignalKeyUsed, error.to_string()),
            SignalError::BadKey => Self::field("/key", "wrong-length", error.to_string()),
            SignalError::UnknownGraph(_) => Self::new(ProblemCode::OtherVersion, error.to_string()),
            SignalError::Database(error) => error.into(),
        }
    }
}

impl From<SkipWaitError> for Problem {
    fn from(error: SkipWaitError) -> Self {
        match error {
            SkipWaitError::NotFound(id) => Self::not_found("workflow", id),
            SkipWaitError::NotWaiting { .. } => Self::new(ProblemCode::NotWaiting, error.to_string()),
            SkipWaitError::Busy => Self::unavailable(error.to_string()),
            SkipWaitError::Database(error) => error.into(),
        }
    }
}

impl Problem {
    /// A dead job that can only be read in the archive.
    pub(crate) fn archived(id: DeadJobId) -> Self {
        Self::new(
            ProblemCode::Archived,
            format!(
                "dead job {id} was archived when its time to live was over; read it at /api/dead-jobs/archive/{id}"
            ),
        )
    }
}

impl From<DeadJobError> for Problem {
    fn from(error: DeadJobError) -> Self {
        match error {
            DeadJobError::NotFound(id) => Self::not_found("dead job", id),
            DeadJobError::Archived(id) => Self::archived(id),
            DeadJobError::AlreadyResolved(_) => Self::new(ProblemCode::AlreadyResolved, error.to_string()),
            DeadJobError::NotUndone { .. } => {
                // The error ends with "or force the discard"; the API adds how.
                Self::new(ProblemCode::NotUndone, format!("{error} with `\"force\": true`"))
            }
            error @ DeadJobError::NotAsPlanned => Self::new(ProblemCode::PlanChanged, error.to_string()),
            DeadJobError::RefusedByObserver(reason) => Self::internal(reason),
            DeadJobError::Database(error) => error.into(),
        }
    }
}

impl From<Infallible> for Problem {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<IllegalStatus> for Problem {
    fn from(refusal: IllegalStatus) -> Self {
        Self::new(ProblemCode::IllegalStatus, refusal.to_string())
    }
}

impl From<StockRefusal> for Problem {
    fn from(refusal: StockRefusal) -> Self {
        let code = match refusal {
            StockRefusal::TooFew { .. } => ProblemCode::StockTooLow,
            StockRefusal::BelowReserved { .. } => ProblemCode::StockReserved,
        };
        Self::new(code, refusal.to_string())
    }
}

impl From<CancelRefusal> for Problem {
    fn from(refusal: CancelRefusal) -> Self {
        match refusal {
            CancelRefusal::NotCancellable { message, .. } => Self::new(ProblemCode::NotCancellable, message),
            CancelRefusal::Pending(message) => Self::new(ProblemCode::CancelPending, message),
            CancelRefusal::Unavailable(reason) => Self::unavailable(reason),
        }
    }
}

impl From<ReturnRefusal> for Problem {
    fn from(refusal: ReturnRefusal) -> Self {
        let code = match refusal {
            ReturnRefusal::IllegalStatus { .. } => ProblemCode::IllegalReturnStatus,
            ReturnRefusal::WorkflowEnded(_) => ProblemCode::WorkflowEnded,
        };
        Self::new(code, refusal.to_string())
    }
}

/// Reads the field errors that an entry step put into its refusal: `{"errors": [{"pointer", "code", "message"}]}`, with
/// pointers relative to the saga's input.
fn violations(details: &serde_json::Value) -> Vec<FieldError> {
    let listed = details.get("errors").and_then(serde_json::Value::as_array);
    let text = |item: &serde_json::Value, name: &str| item.get(name)?.as_str().map(ToOwned::to_owned);
    listed
        .into_iter()
        .flatten()
        .filter_map(|item| {
            let pointer = format!("/input{}", text(item, "pointer")?);
            Some(FieldError::at(pointer, text(item, "code")?, text(item, "message")?))
        })
        .collect()
}

/// A 422 that lists everything that is wrong with a body.
pub(crate) fn invalid(violations: Vec<Violation>) -> Problem {
    let errors = violations.into_iter().map(|wrong| FieldError::at(wrong.pointer, wrong.code, wrong.message));
    Problem::fields(ProblemCode::InvalidBody, errors.collect())
}
