//! Reaches a database that others run: waits for one that is starting, refuses one that is wrong.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, PgPool, postgres::PgConnectOptions};

use crate::{
    config::{DatabaseConfig, SecretUrl},
    exit_error::ExitError,
    pool::{self, PoolUse},
};

/// How long one attempt to connect may take, and the pause between two.
const ATTEMPT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);

/// Gives the database of a command that never starts one.
///
/// # Errors
/// When none is named.
pub(crate) fn required_url(
    config: &DatabaseConfig,
    argument: Option<String>,
) -> Result<SecretUrl, ExitError> {
    argument.map(SecretUrl::new).or_else(|| config.url.clone()).ok_or_else(|| {
        ExitError::Unusable(
            "DATABASE_URL is not set: set it to a URL such as postgres://user:password@host:5432/database \
             (only `dev`, `demo` and `bench` run a database of their own)"
                .into(),
        )
    })
}

/// Makes a pool and proves that it reaches the database. One that does not answer yet is waited for, `patience` long;
/// one that refuses (a wrong password, no such database) is reported at once.
///
/// # Errors
/// [`ExitError::Unusable`], with the password hidden.
pub(crate) async fn connect(
    url: &SecretUrl,
    pool_use: PoolUse,
    size: u32,
    patience: Duration,
) -> Result<PgPool, ExitError> {
    let options = pool::connect_options(url, pool_use)
        .map_err(|error| ExitError::Unusable(format!("DATABASE_URL ({url}) can't be used: {error}")))?;
    let begun = Instant::now();
    loop {
        let Err(error) = probe(&options, ATTEMPT).await else {
            return Ok(pool::open(options, pool_use, size));
        };
        let waited = begun.elapsed();
        if !error.may_pass() || waited + PAUSE > patience {
            let waited =
                if error.may_pass() { format!(" (waited {} s)", waited.as_secs()) } else { String::new() };
            return Err(ExitError::Unusable(format!("the database at {url} can't be used{waited}: {error}")));
        }
        tracing::warn!(
            database = %url, error = %error, waited_s = waited.as_secs(), patience_s = patience.as_secs(),
            "the database does not answer yet; trying again"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why one attempt to connect came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("{}", told(.0))]
    Database(#[from] sqlx::Error),
    #[error("it does not answer within {} s", .0.as_secs())]
    Silent(Duration),
}

impl ProbeError {
    /// Whether a server that is starting gives this answer too.
    fn may_pass(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                // 57P03 is "the database system is starting up", 53300 "too many clients".
                error.code().is_some_and(|code| code == "57P03" || code == "53300")
            }
            Self::Silent(_) | Self::Database(sqlx::Error::Io(_)) => true,
            Self::Database(_) => false,
        }
    }
}

/// What the server said, without the place in its source that sqlx adds.
fn told(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |said| said.message().to_owned())
}

/// Connects once, and closes the connection.
///
/// # Errors
/// When the server refuses, or gives no answer within `timeout`.
pub(crate) async fn probe(options: &PgConnectOptions, timeout: Duration) -> Result<(), ProbeError> {
    let connecting = async {
        let connection = PgConnection::connect_with(options).await?;
        connection.close().await
    };
    match tokio::time::timeout(timeout, connecting).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ProbeError::Silent(timeout)),
    }
}
