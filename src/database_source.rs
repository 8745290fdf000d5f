//! Chooses the database: of `dev` and `bench` the one that a URL names, else the embedded one; of `doctor`, `keys` and
//! `events` the embedded one only while it runs.

use std::{str::FromStr, time::Duration};

use devkit::postgres::{Cluster, DATABASE, Durability, EmbeddedError, Options, PROCESS_ROLE};
use sqlx::{ConnectOptions, PgPool, postgres::PgConnectOptions};

use crate::{
    config::{Config, SecretUrl, Unescaped, refuse_unescaped},
    database,
    exit_error::ExitError,
    migrate,
    pool::{self, PoolUse},
    terminal,
};

/// How long a given database may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why no database can be used; no message contains a password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseSourceError {
    /// The given URL is not a PostgreSQL URL.
    #[error("{origin} is not a PostgreSQL URL such as postgres://user@host/database: {url}")]
    InvalidUrl {
        /// Where the URL was given.
        origin: Origin,
        /// The URL.
        url: SecretUrl,
        /// The parser's reason, when the scheme was right.
        #[source]
        source: Option<sqlx::Error>,
    },

    /// The given URL has a character that has to be escaped.
    #[error("{origin} can't be used")]
    Unescaped {
        /// Where the URL was given.
        origin: Origin,
        /// What to do.
        #[source]
        source: Unescaped,
    },

    /// The given database does not answer.
    #[error("the database that {origin} names can't be used: {url}: {reason}")]
    Unusable {
        /// Where the URL was given.
        origin: Origin,
        /// The URL.
        url: SecretUrl,
        /// What the server or the network answered.
        reason: String,
    },

    /// The embedded PostgreSQL can't be used.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
}

impl From<DatabaseSourceError> for ExitError {
    fn from(error: DatabaseSourceError) -> Self {
        Self::unusable(&error)
    }
}

/// Where a database URL was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
pub(crate) enum Origin {
    /// The `--database-url` flag.
    #[strum(serialize = "--database-url")]
    Flag,
    /// The `DATABASE_URL` environment variable.
    #[strum(serialize = "DATABASE_URL")]
    Environment,
}

/// The database to use.
#[derive(Debug)]
pub(crate) enum DatabaseSource {
    /// The one that a URL names.
    Given(SecretUrl),
    /// The embedded one, which runs as long as a process uses it.
    Embedded(Cluster),
}

impl DatabaseSource {
    /// The database that the flag names, else `DATABASE_URL`, else the embedded one, which is started or adopted.
    ///
    /// A given URL is final: it is used as it is, after one connection has proved that it works.
    ///
    /// # Errors
    /// All but [`DatabaseSourceError::Embedded`] for a given URL, otherwise as
    /// [`Cluster::start`].
    pub(crate) async fn choose(config: &Config, flag: Option<&str>) -> Result<Self, DatabaseSourceError> {
        let configured = config.database.url.as_ref().map(|url| (url.expose(), Origin::Environment));
        if let Some((url, origin)) = flag.map(|url| (url, Origin::Flag)).or(configured) {
            check(url, origin).await?;
            return Ok(Self::Given(SecretUrl::new(url)));
        }
        let options = Options {
            state_dir: config.embedded.state_dir()?,
            durability: Durability::Durable,
            search: config.embedded.search(),
        };
        let cluster = Cluster::start(options).await?;
        cluster.create_database_if_missing(DATABASE).await?;
        cluster.create_process_role().await?;
        Ok(Self::Embedded(cluster))
    }

    /// The database of a command that never starts one: the one that the flag names, else `DATABASE_URL`, else that of the
    /// `sagaline dev` that runs.
    ///
    /// # Errors
    /// [`ExitError::Unusable`] when there is none.
    pub(crate) async fn existing(config: &Config, flag: Option<String>) -> Result<Self, ExitError> {
        if flag.is_none() && config.database.url.is_none() {
            let running = match config.embedded.state_dir() {
                Ok(state_dir) => Cluster::join(&state_dir).await.map_err(DatabaseSourceError::from)?,
                // Then no `sagaline dev` of this user can run.
                Err(EmbeddedError::NoStateDir) => None,
                Err(error) => return Err(DatabaseSourceError::from(error).into()),
            };
            if let Some(cluster) = running {
                terminal::eprint(format_args!(
                    "Using the private PostgreSQL of `sagaline dev` (process {})",
                    cluster.pid()
                ));
                return Ok(Self::Embedded(cluster));
            }
        }
        Ok(Self::Given(database::required_url(&config.database, flag)?))
    }

    /// The URL of the owner of the database, as whom it is migrated.
    pub(crate) fn url(&self) -> SecretUrl {
        match self {
            Self::Given(url) => url.clone(),
            Self::Embedded(cluster) => SecretUrl::new(cluster.url(DATABASE)),
        }
    }

    /// The URL under which processes work with a database of the same server. Where the server is ours, they have a role
    /// that owns nothing; in a server that a URL names no role is created.
    ///
    /// # Errors
    /// When the given URL can't be parsed.
    pub(crate) fn process_url_of(&self, database: &str) -> Result<SecretUrl, sqlx::Error> {
        match self {
            Self::Given(_) => self.url_of(database),
            Self::Embedded(cluster) => Ok(SecretUrl::new(cluster.process_url(database))),
        }
    }

    /// As [`DatabaseSource::process_url_of`], for the database to use.
    pub(crate) fn process_url(&self) -> SecretUrl {
        match self {
            Self::Given(url) => url.clone(),
            Self::Embedded(cluster) => SecretUrl::new(cluster.process_url(DATABASE)),
        }
    }

    /// The role to which a migration grants what those processes need; `None` where they work as the owner.
    pub(crate) fn process_role(&self) -> Option<&'static str> {
        match self {
            Self::Given(_) => None,
            Self::Embedded(_) => Some(PROCESS_ROLE),
        }
    }

    /// The URL of another database of the same server for its owner, with the same parameters.
    ///
    /// # Errors
    /// When the given URL can't be parsed.
    pub(crate) fn url_of(&self, database: &str) -> Result<SecretUrl, sqlx::Error> {
        match self {
            Self::Given(url) => {
                let options = PgConnectOptions::from_str(url.expose())?;
                Ok(SecretUrl::new(options.database(database).to_url_lossy()))
            }
            Self::Embedded(cluster) => Ok(SecretUrl::new(cluster.url(database))),
        }
    }

    /// Releases the database; stops the server if it is the embedded one and no other process uses it.
    ///
    /// # Errors
    /// When the server can't be stopped.
    pub(crate) async fn stop(self) -> Result<(), EmbeddedError> {
        match self {
            Self::Given(_) => Ok(()),
            Self::Embedded(cluster) => cluster.stop().await,
        }
    }
}

/// Runs a command on a migrated database that [exists](DatabaseSource::existing), with a small pool.
///
/// # Errors
/// Those of the command, and when the database can't be used.
pub(crate) async fn on_existing<T>(
    config: &Config,
    flag: Option<String>,
    run: impl AsyncFnOnce(&PgPool, &SecretUrl) -> Result<T, ExitError>,
) -> Result<T, ExitError> {
    let source = DatabaseSource::existing(config, flag).await?;
    let url = source.process_url();
    let ran = match migrate::connect_migrated(&config.database, &url).await {
        Ok(pool) => {
            let ran = run(&pool, &url).await;
            pool::close(&pool).await;
            ran
        }
        Err(error) => Err(error),
    };
    let stopped = source.stop().await;
    let result = ran?;
    stopped?;
    Ok(result)
}

async fn check(url: &str, origin: Origin) -> Result<(), DatabaseSourceError> {
    let invalid = |source| DatabaseSourceError::InvalidUrl { origin, url: SecretUrl::new(url), source };
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(invalid(None));
    }
    refuse_unescaped(url).map_err(|source| DatabaseSourceError::Unescaped { origin, source })?;
    let options = pool::connect_options(&SecretUrl::new(url), PoolUse::Command)
        .map_err(|error| invalid(Some(error)))?;
    database::probe(&options, CONNECT_TIMEOUT).await.map_err(|error| DatabaseSourceError::Unusable {
        origin,
        url: SecretUrl::new(url),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::test_cluster;

    fn config(database_url: Option<&str>) -> Config {
        Config::parse(|name| database_url.filter(|_| name == "DATABASE_URL").map(ToOwned::to_owned), &[])
            .unwrap()
    }

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
            let error = DatabaseSource::choose(&config(env), flag).await.unwrap_err();
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
        let (_dir, cluster) = test_cluster::start().await;
        cluster.create_database_if_missing("shop").await.unwrap();
        cluster.create_database_if_missing("shop").await.unwrap();
        let url = cluster.url("shop");
        let source = DatabaseSource::choose(&config(Some(&url)), None).await.unwrap();
        assert_eq!(source.url().expose(), url);
        source.stop().await.unwrap();
        cluster.stop().await.unwrap();
    }
}
