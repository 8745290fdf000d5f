//! Turns the error of a change into a problem.

use std::fmt::Display;

use shop::ChangeError;

use super::if_match::IfMatch;
use crate::http::{Problem, invalid};

/// The problem of a change that was not made to the resource `noun` with this id.
pub(crate) fn change_problem<E>(noun: &str, id: impl Display, error: ChangeError<E>) -> Problem
where
    E: std::error::Error + Into<Problem> + 'static,
{
    match error {
        ChangeError::NotFound => Problem::not_found(noun, id),
        ChangeError::VersionMismatch { current } => IfMatch::failed(Some(current)),
        ChangeError::Invalid(violations) => invalid(violations),
        ChangeError::Refused(refusal) => refusal.into(),
        ChangeError::Database(error) => error.into(),
    }
}
