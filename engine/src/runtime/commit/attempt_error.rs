//! The error of a step's attempt, as the history records it.

use crate::model::outcome::{Failure, Retry};

/// The error of an attempt that failed: sentences for people, details for programs.
#[derive(Debug, Default)]
pub(crate) struct AttemptError {
    pub(crate) sentences: Vec<String>,
    pub(crate) details: serde_json::Value,
}

impl From<Vec<String>> for AttemptError {
    fn from(sentences: Vec<String>) -> Self {
        Self { sentences, details: serde_json::Value::Null }
    }
}

impl From<&Retry> for AttemptError {
    fn from(retry: &Retry) -> Self {
        Self { sentences: retry.error.clone(), details: retry.details.clone() }
    }
}

impl From<&Failure> for AttemptError {
    fn from(Failure { code, message, details }: &Failure) -> Self {
        Self { sentences: vec![format!("{message} ({code})")], details: details.clone() }
    }
}
