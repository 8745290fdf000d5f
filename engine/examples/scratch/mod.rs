//! A database for an example.

use devkit::postgres::{Cluster, Options, StateDir};

/// A database that the example may fill: that of `DATABASE_URL`, or one of a PostgreSQL that runs as long as this is kept.
pub(crate) struct Scratch {
    cluster: Option<Cluster>,
    pub(crate) url: String,
}

impl Scratch {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        if let Ok(url) = std::env::var("DATABASE_URL") {
            return Ok(Self { cluster: None, url });
        }
        let state_dir = StateDir::at(std::env::temp_dir().join("sagaline-examples"));
        let cluster = Cluster::start(Options { state_dir, ..Options::from_env()? }).await?;
        cluster.create_database_if_missing("examples").await?;
        let url = cluster.url("examples");
        Ok(Self { cluster: Some(cluster), url })
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        if let Some(cluster) = self.cluster {
            cluster.stop().await?;
        }
        Ok(())
    }
}
