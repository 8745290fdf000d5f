//! A database for one run: made on the configured server or the embedded one, and dropped afterwards.

use std::fs;

use anyhow::Context;
use devkit::postgres::DATABASE;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

use crate::{
    config::{Config, SecretUrl},
    database_source::{DatabaseSource, database_url},
    exit_error::ExitError,
    migrate,
    pool::{self, PoolUse},
};

/// A database of our own; drop it with [`Scratch::drop_database`].
pub(crate) struct Scratch {
    source: DatabaseSource,
    admin: PgConnectOptions,
    name: String,
    url: SecretUrl,
    server_pid: Option<u32>,
}

impl Scratch {
    /// Makes a database whose name says what it is for.
    ///
    /// # Errors
    /// [`ExitError::Unusable`] when the server can't be used, otherwise when the database can't be made.
    pub(crate) async fn create(
        config: &Config,
        flag: Option<String>,
        purpose: &str,
    ) -> Result<Self, ExitError> {
        let given = config.database.url.as_ref().map(SecretUrl::expose);
        let source = database_url(flag.as_deref(), given).await?;
        let server = SecretUrl::new(source.url());
        let admin =
            pool::connect_options(&server, PoolUse::Command).context("the server's URL can't be used")?;
        let name = format!("{DATABASE}_{purpose}_{}", Uuid::now_v7().simple());
        let url = match &source {
            DatabaseSource::Embedded(cluster) => cluster.url(&name),
            DatabaseSource::Given { url, .. } => with_database(url, &name)?,
        };
        let mut connection =
            PgConnection::connect_with(&admin).await.context("can't connect to the server")?;
        connection
            .execute(AssertSqlSafe(format!("create database {name}")))
            .await
            .context("can't make a database for the run")?;
        let server_pid = postmaster(&mut connection).await.context("can't look at the server")?;
        connection.close().await.context("can't close the connection to the server")?;
        Ok(Self { source, admin, name, url: SecretUrl::new(url), server_pid })
    }

    /// Its URL.
    pub(crate) fn url(&self) -> &SecretUrl {
        &self.url
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The server's process, where it runs on this machine.
    pub(crate) fn server_pid(&self) -> Option<u32> {
        self.server_pid
    }

    /// Connects to the server beside the database, so that the database's own figures are not touched.
    pub(crate) async fn admin(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.admin).await
    }

    /// Makes both schemas.
    pub(crate) async fn migrate(&self) -> anyhow::Result<()> {
        migrate::migrate(self.url.expose()).await
    }

    /// Drops the database, whoever is still connected, and lets go of the server.
    ///
    /// # Errors
    /// When the server refuses or can't be stopped.
    pub(crate) async fn drop_database(self) -> anyhow::Result<()> {
        let mut connection = self.admin().await?;
        connection.execute(AssertSqlSafe(format!("drop database {} with (force)", self.name))).await?;
        connection.close().await?;
        self.source.stop().await.context("can't let go of the server")
    }
}

/// Names another database of the same server; parameters stay.
fn with_database(url: &str, name: &str) -> anyhow::Result<String> {
    let options: PgConnectOptions = url.parse().context("the server's URL can't be used")?;
    Ok(options.database(name).to_url_lossy().to_string())
}

/// The parent of our server process is the server, if it runs here at all: a number may mean another process on this
/// machine, so its name is looked at.
async fn postmaster(connection: &mut PgConnection) -> Result<Option<u32>, sqlx::Error> {
    let own: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await?;
    let is_postgres = |pid: &str| {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim_end().starts_with("postgres"))
    };
    let parent = || {
        let stat = fs::read_to_string(format!("/proc/{own}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().nth(1).map(ToOwned::to_owned)
    };
    Ok(parent()
        .filter(|parent| is_postgres(&own.to_string()) && is_postgres(parent))
        .and_then(|pid| pid.parse().ok()))
}
