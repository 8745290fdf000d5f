//! The database of one run: on the configured server or the embedded one, and dropped afterwards.

use anyhow::Context;
use devkit::temp_database::TempDatabase;
use sqlx::PgConnection;

use crate::{
    config::{Config, SecretUrl},
    database_source::DatabaseSource,
    exit_error::ExitError,
    migrate,
    pool::{self, PoolUse},
};

/// The database of one run; remove it with [`BenchDatabase::drop_database`].
pub(super) struct BenchDatabase {
    source: DatabaseSource,
    database: TempDatabase,
    owner_url: SecretUrl,
    url: SecretUrl,
}

impl BenchDatabase {
    /// Creates the database, which is empty.
    ///
    /// # Errors
    /// [`ExitError::Unusable`] when the server can't be used, otherwise when the database can't be created.
    pub(super) async fn create(config: &Config, flag: Option<&str>) -> Result<Self, ExitError> {
        let source = DatabaseSource::choose(config, flag).await?;
        match Self::in_source(&source).await {
            Ok((database, owner_url, url)) => Ok(Self { source, database, owner_url, url }),
            Err(error) => {
                source.stop().await.context("can't release the server")?;
                Err(error.into())
            }
        }
    }

    async fn in_source(source: &DatabaseSource) -> anyhow::Result<(TempDatabase, SecretUrl, SecretUrl)> {
        let server = pool::connect_options(&source.url(), PoolUse::Command)
            .context("the server's URL can't be used")?;
        let database = TempDatabase::create(server, "sagaline_bench")
            .await
            .context("can't create a database for the run")?;
        let unusable = "the server's URL can't be used";
        let owner_url = source.url_of(database.name()).context(unusable)?;
        let url = source.process_url_of(database.name()).context(unusable)?;
        Ok((database, owner_url, url))
    }

    /// Creates the schemas `engine` and `shop` in the database.
    ///
    /// # Errors
    /// When a migration fails.
    pub(super) async fn migrate(&self) -> anyhow::Result<()> {
        migrate::migrate(self.owner_url.expose(), self.source.process_role()).await
    }

    /// The URL of the database for what is measured.
    pub(super) fn url(&self) -> &SecretUrl {
        &self.url
    }

    /// The database's name.
    pub(super) fn name(&self) -> &str {
        self.database.name()
    }

    /// The process id of the server, if it runs on this machine.
    pub(super) fn server_pid(&self) -> Option<u32> {
        self.database.server_pid()
    }

    /// Connects to the server beside the database, so that the database's own statistics are not affected.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub(super) async fn admin(&self) -> Result<PgConnection, sqlx::Error> {
        self.database.admin().await
    }

    /// Drops the database, even while clients are connected to it, and releases the server.
    ///
    /// # Errors
    /// When the server refuses or can't be stopped.
    pub(super) async fn drop_database(self) -> anyhow::Result<()> {
        self.database.drop_database().await.context("can't drop the run's database")?;
        self.source.stop().await.context("can't release the server")
    }
}
