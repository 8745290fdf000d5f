//! A database for an example.

use devkit::{
    postgres::{Cluster, Options, StateDir},
    temp_database::TempDatabase,
};

/// A database that the example may fill: that of `DATABASE_URL`, or a new one in a PostgreSQL that runs as long as this is
/// kept.
pub(crate) struct Scratch {
    embedded: Option<(Cluster, TempDatabase)>,
    pub(crate) url: String,
}

impl Scratch {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        if let Ok(url) = std::env::var("DATABASE_URL") {
            return Ok(Self { embedded: None, url });
        }
        let state_dir = StateDir::at(std::env::temp_dir().join("sagaline-examples"));
        let cluster = Cluster::start(Options { state_dir, ..Options::from_env()? }).await?;
        let database = TempDatabase::create(cluster.url("postgres").parse()?, "example").await?;
        let url = cluster.url(database.name());
        Ok(Self { embedded: Some((cluster, database)), url })
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        if let Some((cluster, database)) = self.embedded {
            database.drop_database().await?;
            cluster.stop().await?;
        }
        Ok(())
    }
}
