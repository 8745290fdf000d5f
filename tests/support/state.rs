//! A temporary state directory, for tests that start, kill and reset clusters.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use devkit::postgres::{Cluster, Durability, Options, PROCESS_ROLE, Search, StateDir};
use tempfile::TempDir;

/// A temporary folder that a server's user can traverse; removed at the end.
pub(crate) struct TempState {
    temp_dir: TempDir,
    state_dir: PathBuf,
}

impl TempState {
    pub(crate) fn new() -> Self {
        Self::with_path("state")
    }

    /// With the state directory at a path below the temporary folder.
    pub(crate) fn with_path(path: impl AsRef<Path>) -> Self {
        let temp_dir = tempfile::Builder::new().prefix("sagaline-it-").tempdir().expect("a temporary folder");
        // As root the server runs as another user, who could not enter a folder with mode 0700.
        set_permissions(temp_dir.path(), Permissions::from_mode(0o711)).expect("the folder is ours");
        let state_dir = temp_dir.path().join(path);
        Self { temp_dir, state_dir }
    }

    pub(crate) fn state_dir(&self) -> StateDir {
        StateDir::at(&self.state_dir)
    }

    /// The folder of the cluster.
    pub(crate) fn cluster_dir(&self) -> PathBuf {
        self.state_dir.join("postgres")
    }

    /// The temporary folder that contains the state directory.
    pub(crate) fn temp_dir(&self) -> &Path {
        self.temp_dir.path()
    }

    pub(crate) fn options(&self) -> Options {
        Options { state_dir: self.state_dir(), durability: Durability::Throwaway, search: Search::from_env() }
    }

    pub(crate) async fn start(&self) -> Cluster {
        Cluster::start(self.options()).await.expect("a cluster starts")
    }

    /// Makes a migrated database in a cluster, and returns its URL for processes.
    pub(crate) async fn migrated(cluster: &Cluster, database: &str) -> String {
        cluster.create_database_if_missing(database).await.expect("the cluster makes a database");
        cluster.create_process_role().await.expect("the cluster makes a role");
        let migrated = sagaline::migrate(&cluster.url(database), Some(PROCESS_ROLE)).await;
        migrated.expect("the database is migrated");
        cluster.process_url(database)
    }
}
