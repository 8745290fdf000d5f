//! Decides where the database is: the one that was asked for, else our own.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use crate::database::told;

use super::{Cluster, DATABASE, EmbeddedError, Options, redact};

/// How long a given database may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Says where a database URL was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The `--database-url` flag.
    Flag,
    /// The `DATABASE_URL` environment variable.
    Environment,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Flag => "--database-url",
            Self::Environment => "DATABASE_URL",
        })
    }
}

/// The database to use.
#[derive(Debug)]
pub enum Source {
    /// One that somebody else runs.
    Given {
        /// Its URL, as it was given: it may hold a password.
        url: String,
        /// Where it was given.
        origin: Origin,
    },
    /// Our own, which lives as long as its last user.
    Embedded(Cluster),
}

impl Source {
    /// Returns the URL to connect to; it may hold a password.
    pub fn url(&self) -> String {
        match self {
            Self::Given { url, .. } => url.clone(),
            Self::Embedded(cluster) => cluster.url(DATABASE),
        }
    }

    /// Lets go of the database; stops the server if it is ours and nobody else uses it.
    ///
    /// # Errors
    ///
    /// When the server can't be stopped.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        match self {
            Self::Given { .. } => Ok(()),
            Self::Embedded(cluster) => cluster.stop().await,
        }
    }
}

/// Returns the given database, the flag before the environment, else starts or adopts our own.
///
/// A given URL is final: it is used as it is, after one connection has proved that it works. An empty
/// environment variable counts as not given.
///
/// # Errors
///
/// [`EmbeddedError::InvalidUrl`] and [`EmbeddedError::Unusable`] for a given URL, otherwise what
/// [`Cluster::start`] says.
///
/// # Cancel safety
///
/// As [`Cluster::start`].
pub async fn database_url(flag: Option<&str>, env: Option<&str>) -> Result<Source, EmbeddedError> {
    let given = flag
        .map(|url| (url, Origin::Flag))
        .or_else(|| env.filter(|url| !url.is_empty()).map(|url| (url, Origin::Environment)));
    if let Some((url, origin)) = given {
        check(url, origin).await?;
        return Ok(Source::Given { url: url.to_owned(), origin });
    }
    let cluster = Cluster::start(Options::from_env()?).await?;
    cluster.create_database_if_missing(DATABASE).await?;
    Ok(Source::Embedded(cluster))
}

async fn check(url: &str, origin: Origin) -> Result<(), EmbeddedError> {
    let invalid = |source| EmbeddedError::InvalidUrl { origin, url: redact(url), source };
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(invalid(None));
    }
    let options = PgConnectOptions::from_str(url).map_err(|error| invalid(Some(error)))?;
    connect(&options, CONNECT_TIMEOUT)
        .await
        .map_err(|error| EmbeddedError::Unusable { origin, url: redact(url), said: told(&error) })?
        .close()
        .await
        .map_err(|error| EmbeddedError::Unusable { origin, url: redact(url), said: told(&error) })
}

/// Connects within a time-out, which counts as the I/O error that it stands for.
pub(super) async fn connect(
    options: &PgConnectOptions,
    timeout: Duration,
) -> Result<PgConnection, sqlx::Error> {
    match tokio::time::timeout(timeout, options.connect()).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
