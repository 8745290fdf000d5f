//! The directories and files of the embedded PostgreSQL.
//!
//! ```text
//! <state directory>/postgres/     readable by the current user, passable by the server's user
//!     README                      says whose folder this is, and marks it as one that Sagaline made
//!     start.lock  users.lock      held by processes that start, stop or use the server (see `lock`)
//!     data/  data.new/            the data directory; `data.new` while `initdb` runs
//!     run/                        the socket, unless its path would be too long
//!     socket-dir                  the path of the socket's directory in that case
//!     server.log  server.log.old  the server's output since its start, and since the previous start
//! ```

use std::{
    env,
    ffi::OsString,
    fs::{self, DirBuilder, Permissions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

use super::error::EmbeddedError;

const MARKER: &str = "This folder belongs to Sagaline, which keeps its private PostgreSQL here.\n\
    `sagaline dev --reset` empties it; deleting it while nothing runs is safe too, and loses the data.\n";

/// The folder that holds what Sagaline keeps on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The given folder, which is made when it is needed.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The default: `$SAGALINE_STATE_DIR`, else `/var/lib/sagaline` for root, else `$XDG_STATE_HOME/sagaline`
    /// or `~/.local/state/sagaline`; never the working directory.
    ///
    /// # Errors
    /// [`EmbeddedError::NoStateDir`] when none of the variables is set.
    pub fn from_env() -> Result<Self, EmbeddedError> {
        let set =
            |name: &str| env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
        let absolute = |path: &PathBuf| path.is_absolute();
        set("SAGALINE_STATE_DIR")
            .or_else(|| geteuid().is_root().then(|| PathBuf::from("/var/lib/sagaline")))
            .or_else(|| set("XDG_STATE_HOME").filter(absolute).map(|home| home.join("sagaline")))
            .or_else(|| set("HOME").filter(absolute).map(|home| home.join(".local/state/sagaline")))
            .map(Self)
            .ok_or(EmbeddedError::NoStateDir)
    }

    /// The path of the state directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// The files of one embedded PostgreSQL.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The server's folder, if it exists; makes nothing.
    pub(super) fn existing(state: &StateDir) -> Result<Option<Self>, EmbeddedError> {
        match fs::canonicalize(state.0.join("postgres")) {
            Ok(root) if root.join("README").is_file() => Ok(Some(Self { root })),
            Ok(path) => Err(EmbeddedError::Foreign { path }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(EmbeddedError::io("find", &state.0)(error)),
        }
    }

    /// Makes the server's folder if it is missing.
    ///
    /// Several processes may run this at once, before any of them can hold a lock, so every step tolerates that another
    /// process has already done it.
    pub(super) fn make(state: &StateDir) -> Result<Self, EmbeddedError> {
        let root = state.0.join("postgres");
        make_dirs(&root)?;
        let root = fs::canonicalize(&root).map_err(EmbeddedError::io("find", &root))?;
        let marker = root.join("README");
        if !marker.is_file() {
            let entries = fs::read_dir(&root).map_err(EmbeddedError::io("read", &root))?;
            let foreign = entries.filter_map(Result::ok).any(|entry| entry.file_name() != "README");
            // Another process may have written the marker meanwhile; it does so before anything else.
            if foreign && !marker.is_file() {
                return Err(EmbeddedError::Foreign { path: root });
            }
            fs::write(&marker, MARKER).map_err(EmbeddedError::io("write", &marker))?;
        }
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn start_lock(&self) -> PathBuf {
        self.root.join("start.lock")
    }

    pub(super) fn users_lock(&self) -> PathBuf {
        self.root.join("users.lock")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(super) fn new_data(&self) -> PathBuf {
        self.root.join("data.new")
    }

    pub(super) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(super) fn socket_record(&self) -> PathBuf {
        self.root.join("socket-dir")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    pub(super) fn old_log(&self) -> PathBuf {
        self.root.join("server.log.old")
    }
}

/// Makes a folder and its missing parents, passable by the server's user if that is not the current one.
///
/// The mode is set in a second step, because a strict umask would lock the server's user out.
fn make_dirs(path: &Path) -> Result<(), EmbeddedError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_dirs(parent)?;
    }
    let mode = if geteuid().is_root() { 0o711 } else { 0o700 };
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(EmbeddedError::io("open up", path)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(EmbeddedError::io("make", path)(error)),
    }
}
