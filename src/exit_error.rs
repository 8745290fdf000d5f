//! How a command ends: the exit code and the words on standard error.

use std::process::ExitCode;

use devkit::postgres::EmbeddedError;

use crate::{config::ConfigError, database_source::DatabaseSourceError, terminal};

/// A command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExitError {
    /// The configuration or the database it names can't be used: exit code 2, nothing was done.
    #[error("{0}")]
    Unusable(String),
    /// The command ran and the answer is no (a violated invariant, a stale file): exit code 1; it has said why.
    #[error("{0}")]
    Negative(String),
    /// Anything else: exit code 1.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl ExitError {
    /// Tells the person and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Unusable(message) => {
                terminal::eprint(format_args!("sagaline: {message}"));
                ExitCode::from(2)
            }
            Self::Negative(message) => {
                terminal::eprint(format_args!("sagaline: {message}"));
                ExitCode::from(1)
            }
            Self::Other(error) => {
                terminal::eprint(format_args!("sagaline: {error:#}"));
                ExitCode::from(1)
            }
        }
    }
}

impl From<ConfigError> for ExitError {
    fn from(error: ConfigError) -> Self {
        let lines = error.to_string().replace('\n', "\n  ");
        Self::Unusable(format!("the environment can't be used:\n  {lines}"))
    }
}

/// The embedded default says itself what is wrong and what helps.
impl From<EmbeddedError> for ExitError {
    fn from(error: EmbeddedError) -> Self {
        Self::Unusable(with_causes(&error))
    }
}

impl From<DatabaseSourceError> for ExitError {
    fn from(error: DatabaseSourceError) -> Self {
        Self::Unusable(with_causes(&error))
    }
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
