//! The error of a command: its exit code, and its message on standard error. `sagaline --help` lists the codes.

use std::process::ExitCode;

use devkit::postgres::EmbeddedError;

use crate::{config::ConfigError, shutdown::Interrupted, terminal};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExitError {
    /// The configuration or the database that it names can't be used. Nothing was done; exit code 2.
    #[error("{0}")]
    Unusable(String),
    /// The command ran, and its result is negative, such as a violated invariant or a stale file; exit code 1.
    #[error("{0}")]
    NegativeResult(String),
    /// Any other error; exit code 1, or 130 if it is [`Interrupted`].
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl ExitError {
    /// [`ExitError::Unusable`] with the message of an error and of its causes.
    pub(crate) fn unusable(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Unusable(engine::ErrorChain(error).to_string())
    }

    /// Prints the error and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let (message, code) = match self {
            Self::Unusable(message) => (message.clone(), 2),
            Self::NegativeResult(message) => (message.clone(), 1),
            Self::Other(error) => (format!("{error:#}"), if error.is::<Interrupted>() { 130 } else { 1 }),
        };
        terminal::eprint_error(message);
        ExitCode::from(code)
    }
}

impl From<ConfigError> for ExitError {
    fn from(error: ConfigError) -> Self {
        let lines = error.to_string().replace('\n', "\n  ");
        Self::Unusable(format!("the environment can't be used:\n  {lines}"))
    }
}

impl From<EmbeddedError> for ExitError {
    fn from(error: EmbeddedError) -> Self {
        Self::unusable(&error)
    }
}
