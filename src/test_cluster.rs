//! A private PostgreSQL for the unit tests of this crate.

use std::{
    fs::{Permissions, set_permissions},
    os::unix::fs::PermissionsExt,
};

use devkit::postgres::{Cluster, Durability, Options, Search, StateDir};
use tempfile::TempDir;

/// Starts a server whose data are in the folder.
pub(crate) async fn start() -> (TempDir, Cluster) {
    let dir = tempfile::tempdir().unwrap();
    // As root the server runs as another user, who can't enter a folder with mode 0700.
    set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
    let options = Options {
        state_dir: StateDir::at(dir.path()),
        durability: Durability::Throwaway,
        search: Search::from_env(),
    };
    let cluster = Cluster::start(options).await.unwrap();
    (dir, cluster)
}
