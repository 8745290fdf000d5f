//! The error of a call step, so that its code can use `?`.

use std::{error::Error, fmt};

use crate::model::outcome::Retry;

/// Why an attempt of a call failed, as `?` makes it of any error, of an `anyhow::Error` or of a text.
///
/// Returning it is the same as [`Outcome::Retry`](crate::Outcome::Retry) with [`Retry::because`]: the attempt counts,
/// the error is stored with all its causes, whether the call happened is in doubt, and the step's policy says when it is
/// repeated. A failure that repeating would not mend is an [`Outcome::Fail`](crate::Outcome::Fail).
///
/// Like `anyhow::Error` it does not implement [`Error`] itself, or it could not be made of every error;
/// [`CallError::as_error`] gives the error that it holds.
pub struct CallError(Box<dyn Error + Send + Sync>);

impl CallError {
    /// The error of the call.
    pub fn as_error(&self) -> &(dyn Error + 'static) {
        &*self.0
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for CallError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<CallError> for Retry {
    fn from(error: CallError) -> Self {
        Self::because(error.as_error())
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
