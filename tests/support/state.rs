//! A temporary state directory, for tests that start, kill and reset clusters.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use devkit::postgres::{Cluster, Durability, Options, Search, StateDir};
use tempfile::TempDir;

/// A temporary folder that a server's user can traverse; removed at the end.
pub(crate) struct TempState {
    dir: TempDir,
    inner: PathBuf,
}

impl TempState {
    pub(crate) fn new() -> Self {
        Self::with_path("state")
    }

    /// With the state directory at a path below the temporary folder.
    pub(crate) fn with_path(path: impl AsRef<Path>) -> Self {
        let dir = tempfile::Builder::new().prefix("sagaline-it-").tempdir().expect("a temporary folder");
        // As root the server runs as another user, who could not enter a folder with mode 0700.
        set_permissions(dir.path(), Permissions::from_mode(0o711)).expect("the folder is ours");
        let inner = dir.path().join(path);
        Self { dir, inner }
    }

    pub(crate) fn dir(&self) -> StateDir {
        StateDir::at(&self.inner)
    }

    /// The folder of the cluster.
    pub(crate) fn cluster_dir(&self) -> PathBuf {
        self.inner.join("postgres")
    }

    /// The temporary folder that contains the state directory.
    pub(crate) fn outer(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn options(&self) -> Options {
        Options { state_dir: self.dir(), durability: Durability::Throwaway, search: Search::from_env() }
    }

    pub(crate) async fn start(&self) -> Cluster {
        Cluster::start(self.options()).await.expect("a cluster starts")
    }
}
