//! What can go wrong with the embedded default, by what the person who started it does about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::NotFound;

/// Says why there is no embedded PostgreSQL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No binaries fit; the text lists the places searched and the remedies.
    #[error(transparent)]
    NotFound(#[from] Box<NotFound>),

    /// There is no home for the state; set `SAGALINE_STATE_DIR`.
    #[error("no place to keep the database: set SAGALINE_STATE_DIR, XDG_STATE_HOME or HOME")]
    NoStateDir,

    /// A file could not be read or written.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },

    /// The folder holds something that we didn't make; choose another.
    #[error("{} has something in it that Sagaline didn't make; set SAGALINE_STATE_DIR to another folder", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },

    /// Another user owns the cluster.
    #[error("{} belongs to user {uid}; run as that user, or set SAGALINE_STATE_DIR to another folder", path.display())]
    NotOurs {
        /// The data directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },

    /// We run as root, PostgreSQL refuses to, and its user can't get to the data.
    #[error("PostgreSQL runs as user {user} here, which can't enter {}; set SAGALINE_STATE_DIR to a folder that it can", dir.display())]
    Closed {
        /// The first folder on the way that is closed to the user.
        dir: PathBuf,
        /// The user that the server runs as.
        user: String,
    },

    /// We run as root and there is nobody to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and there is no user postgres, nobody or daemon to run it as"
    )]
    NoServerUser,

    /// Another process keeps the lock; it may be starting or stopping the server.
    #[error("another process has held {} for {waited:?}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },

    /// Somebody uses the cluster that was to be reset; stop them first.
    #[error("the database in {} is in use by another sagaline process; stop it first", path.display())]
    InUse {
        /// The cluster's folder.
        path: PathBuf,
    },

    /// `initdb` refused.
    #[error("initdb failed: {output}")]
    Initdb {
        /// What it printed.
        output: String,
    },

    /// The server ended while it was starting.
    #[error("the server ended at its start; the end of {}:\n{tail}", log.display())]
    Start {
        /// The server's log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },

    /// The server did not become ready in time; its log says what it does.
    #[error("the server (process {pid}) was not ready after {waited:?}; see {}", log.display())]
    NotReady {
        /// The server's process id.
        pid: i32,
        /// How long we waited.
        waited: Duration,
        /// The server's log.
        log: PathBuf,
    },

    /// The server did not end, not even at an immediate shutdown.
    #[error("the server (process {pid}) does not stop")]
    WontStop {
        /// The server's process id.
        pid: i32,
    },

    /// Our own server answered a statement with an error.
    #[error("the embedded server failed")]
    Sql(#[from] sqlx::Error),
}

impl EmbeddedError {
    /// Makes the closure that turns an I/O error on `path` into ours.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
