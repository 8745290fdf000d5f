//! Connects to a database that runs elsewhere: waits for one that is starting, and reports one that refuses.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, PgPool, postgres::PgConnectOptions};

use crate::{
    config::{self, DatabaseConfig, SecretUrl},
    exit_error::ExitError,
    pool::{self, PoolUse},
    sessions::{self, PARAMETER_IS_REFUSED, SESSIONS_ARE_SHARED},
};

/// How long one attempt to connect may take, and the pause between two.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The URL of the database of a command that never starts one: the argument, else `DATABASE_URL`.
///
/// # Errors
/// [`ExitError::Unusable`] when neither is given, or the argument is not escaped.
pub(crate) fn required_url(
    database: &DatabaseConfig,
    argument: Option<String>,
) -> Result<SecretUrl, ExitError> {
    if let Some(argument) = argument {
        config::refuse_unescaped(&argument)
            .map_err(|flaw| ExitError::Unusable(format!("--database-url can't be used: {flaw}")))?;
        return Ok(SecretUrl::new(argument));
    }
    database.url.clone().ok_or_else(|| {
        ExitError::Unusable(
            "DATABASE_URL is not set: set it to a URL such as postgres://user:password@host:5432/database \
             (only `dev`, `demo` and `bench` run a database of their own; while `dev` runs, `doctor`, `keys` and `events` \
             use its one)"
                .into(),
        )
    })
}

/// Builds a pool and checks that it reaches the database. Waits at most `max_wait` for a database that does not answer
/// yet; reports one that refuses (a wrong password, no such database) at once.
///
/// # Errors
/// [`ExitError::Unusable`], with the password hidden.
pub(crate) async fn connect(
    url: &SecretUrl,
    pool_use: PoolUse,
    size: u32,
    max_wait: Duration,
) -> Result<PgPool, ExitError> {
    let options = pool::connect_options(url, pool_use)
        .map_err(|error| ExitError::Unusable(format!("DATABASE_URL ({url}) can't be used: {error}")))?;
    let started = Instant::now();
    loop {
        let Err(error) = probe(&options, CONNECT_TIMEOUT).await else {
            return Ok(pool::open(options, pool_use, size));
        };
        let waited = started.elapsed();
        if !error.is_temporary() || waited + RETRY_DELAY > max_wait {
            let waited = if error.is_temporary() {
                format!(" (waited {} s)", waited.as_secs())
            } else {
                String::new()
            };
            return Err(ExitError::Unusable(format!("the database at {url} can't be used{waited}: {error}")));
        }
        tracing::warn!(
            database = %url, error = %engine::ErrorChain(&error), waited_s = waited.as_secs(), max_wait_s = max_wait.as_secs(),
            "the database does not answer yet; trying again"
        );
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// How long a second connection may take. Without one, sessions are not compared.
const SECOND_TIMEOUT: Duration = Duration::from_secs(2);

/// Why one attempt to connect failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("{}", pool::server_message(.0))]
    Database(#[from] sqlx::Error),
    #[error("it does not answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    #[error("{}: {}", pool::server_message(.0), PARAMETER_IS_REFUSED)]
    RefusedParameter(#[source] sqlx::Error),
    #[error("{}", SESSIONS_ARE_SHARED)]
    SharedSessions,
}

impl ProbeError {
    /// Whether a server that is still starting may fail in this way.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Database(error) => engine::is_transient_refusal(error),
            Self::NoAnswer(_) => true,
            Self::RefusedParameter(_) | Self::SharedSessions => false,
        }
    }
}

/// Connects twice, and closes the connections.
///
/// # Errors
/// When the server refuses, gives no answer within `timeout`, or gives connections no sessions of their own.
pub(crate) async fn probe(options: &PgConnectOptions, timeout: Duration) -> Result<(), ProbeError> {
    let connecting = async {
        let mut first = PgConnection::connect_with(options).await.map_err(refusal)?;
        let second = tokio::time::timeout(SECOND_TIMEOUT, PgConnection::connect_with(options)).await;
        // A server that has one connection left can still be used by a command.
        if let Ok(Ok(mut second)) = second {
            if !sessions::are_kept(&mut first, &mut second).await? {
                return Err(ProbeError::SharedSessions);
            }
            second.close().await?;
        }
        Ok(first.close().await?)
    };
    tokio::time::timeout(timeout, connecting).await.unwrap_or(Err(ProbeError::NoAnswer(timeout)))
}

/// Tells a pooler's refusal of a connection from that of a server.
fn refusal(error: sqlx::Error) -> ProbeError {
    // PgBouncer says it so, and with the code of a violated protocol.
    if pool::server_message(&error).contains("unsupported startup parameter") {
        return ProbeError::RefusedParameter(error);
    }
    ProbeError::Database(error)
}
