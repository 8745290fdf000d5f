//! Decides where the database of `dev` and `bench` is: the one that a URL names, else the embedded one.

use std::{fmt, str::FromStr, time::Duration};

use devkit::postgres::{Cluster, DATABASE, EmbeddedError, Options};
use sqlx::postgres::PgConnectOptions;

use crate::{config::redact, database};

/// How long a given database may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no database to use; no variant's text holds a password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseSourceError {
    /// The given database URL can't be parsed; correct it.
    #[error("{origin} is not a PostgreSQL URL such as postgres://user@host/database: {url}")]
    InvalidUrl {
        /// Where the URL was given.
        origin: Origin,
        /// The URL, without its password.
        url: String,
        /// The parser's reason, when the scheme was right.
        #[source]
        source: Option<sqlx::Error>,
    },

    /// The database that was asked for doesn't answer; start it or correct the URL.
    #[error("the database that {origin} names can't be used: {url}: {reason}")]
    Unusable {
        /// Where the URL was given.
        origin: Origin,
        /// The URL, without its password.
        url: String,
        /// What the server or the network answered.
        reason: String,
    },

    /// The embedded server can't be used.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
}

/// Where a database URL was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
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
pub(crate) enum DatabaseSource {
    /// One that the embedded server is not.
    Given {
        /// Its URL, as it was given: it may hold a password.
        url: String,
    },
    /// The embedded one, which lives as long as its last user.
    Embedded(Cluster),
}

impl DatabaseSource {
    /// The URL to connect to; it may hold a password.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Given { url, .. } => url.clone(),
            Self::Embedded(cluster) => cluster.url(DATABASE),
        }
    }

    /// Lets go of the database; stops the server if it is the embedded one and no other process uses it.
    ///
    /// # Errors
    /// When the server can't be stopped.
    pub(crate) async fn stop(self) -> Result<(), EmbeddedError> {
        match self {
            Self::Given { .. } => Ok(()),
            Self::Embedded(cluster) => cluster.stop().await,
        }
    }
}

/// The given database, the flag before the environment, else the embedded one, started or adopted.
///
/// A given URL is final: it is used as it is, after one connection has proved that it works. An empty environment
/// variable counts as not given.
///
/// # Errors
/// [`DatabaseSourceError::InvalidUrl`] and [`DatabaseSourceError::Unusable`] for a given URL, otherwise what [`Cluster::start`] says.
pub(crate) async fn database_url(
    flag: Option<&str>,
    env: Option<&str>,
) -> Result<DatabaseSource, DatabaseSourceError> {
    let given = flag
        .map(|url| (url, Origin::Flag))
        .or_else(|| env.filter(|url| !url.is_empty()).map(|url| (url, Origin::Environment)));
    if let Some((url, origin)) = given {
        check(url, origin).await?;
        return Ok(DatabaseSource::Given { url: url.to_owned() });
    }
    let cluster = Cluster::start(Options::from_env()?).await?;
    cluster.create_database_if_missing(DATABASE).await?;
    Ok(DatabaseSource::Embedded(cluster))
}

async fn check(url: &str, origin: Origin) -> Result<(), DatabaseSourceError> {
    let invalid = |source| DatabaseSourceError::InvalidUrl { origin, url: redact(url), source };
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(invalid(None));
    }
    let options = PgConnectOptions::from_str(url).map_err(|error| invalid(Some(error)))?;
    database::probe(&options, CONNECT_TIMEOUT).await.map_err(|error| DatabaseSourceError::Unusable {
        origin,
        url: redact(url),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::{error::Error, os::unix::fs::PermissionsExt};

    use devkit::postgres::{Durability, Search, StateDir};

    use super::*;

    #[tokio::test]
    async fn a_wrong_url_is_final_and_is_reported_without_its_password() {
        for (flag, env, origin) in [
            (Some("postgres://ann:sesame@127.0.0.1:1/shop"), None, "--database-url"),
            (None, Some("postgres://ann:sesame@127.0.0.1:1/shop"), "DATABASE_URL"),
            (Some("postgres://ann:sesame@127.0.0.1:1/shop"), Some("postgres:///x"), "--database-url"),
            (Some("mysql://ann:sesame@127.0.0.1/shop"), None, "--database-url"),
            (Some("postgres://ann:ses/ame@127.0.0.1:x/shop"), None, "--database-url"),
            (Some("sesame"), None, "--database-url"),
            (Some(""), Some("postgres:///x"), "--database-url"),
        ] {
            let error = database_url(flag, env).await.unwrap_err();
            let mut text = format!("{error} {error:?}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            assert!(error.to_string().contains(origin), "{text}");
            assert!(!text.contains("ses") && !text.contains("ame@"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_given_url_is_used_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        // As root the server runs as another user, whom a folder made with mode 0700 would shut out.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let options = Options {
            state_dir: StateDir::at(dir.path()),
            durability: Durability::Throwaway,
            search: Search::from_env(),
        };
        let cluster = Cluster::start(options).await.unwrap();
        cluster.create_database_if_missing("shop").await.unwrap();
        cluster.create_database_if_missing("shop").await.unwrap();
        let url = cluster.url("shop");
        let source = database_url(None, Some(&url)).await.unwrap();
        assert_eq!(source.url(), url);
        source.stop().await.unwrap();
        cluster.stop().await.unwrap();
    }
}
