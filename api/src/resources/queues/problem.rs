//! Which problem an error of a queue is.

use shop::commands::QueueError;

use crate::{extract::IfMatch, http::Problem};

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::NotFound(name) => Self::not_found("queue", name),
            QueueError::VersionMismatch { current } => IfMatch::failed(Some(current)),
            QueueError::Database(error) => error.into(),
        }
    }
}
