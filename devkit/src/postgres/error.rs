//! Why the embedded PostgreSQL can't be used: one variant for each thing that a person can do about it.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::binaries::NotFound;

/// Why the embedded PostgreSQL can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No binaries fit; the message lists the places searched and the remedies.
    #[error(transparent)]
    NotFound(#[from] Box<NotFound>),

    /// There is no directory for the data; set `SAGALINE_STATE_DIR`.
    #[error("no directory for the database: set SAGALINE_STATE_DIR, XDG_STATE_HOME or HOME")]
    NoStateDir,

    /// A file could not be read or written.
    #[error("can't {action} {}", path.display())]
    Io {
        /// The failed action, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },

    /// The folder holds something that Sagaline didn't make; choose another.
    #[error("{} has something in it that Sagaline didn't make; set SAGALINE_STATE_DIR to another folder", path.display())]
    Foreign {
        /// The folder that was chosen as the state directory.
        path: PathBuf,
    },

    /// Another user owns the data.
    #[error("{} belongs to user {uid}; run as that user, or set SAGALINE_STATE_DIR to another folder", path.display())]
    NotOurs {
        /// The data directory of the server.
        path: PathBuf,
        /// The id of the user who owns the data directory.
        uid: u32,
    },

    /// Root started the program, so PostgreSQL runs as another user, and that user can't access the data.
    #[error("PostgreSQL runs as user {user} here, which can't enter {}; set SAGALINE_STATE_DIR to a folder that it can", dir.display())]
    Closed {
        /// The first directory on the path that the user can't enter.
        dir: PathBuf,
        /// The user that the server runs as.
        user: String,
    },

    /// Root started it, and there is no unprivileged user to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and there is no user postgres, nobody or daemon to run it as"
    )]
    NoServerUser,

    /// Another process keeps the lock; it may be starting or stopping the server.
    #[error("another process has held {} for {waited:?}", path.display())]
    Locked {
        /// The file that the other process has locked.
        path: PathBuf,
        /// How long this process waited.
        waited: Duration,
    },

    /// Another process uses the server that was to be reset; stop that process first.
    #[error("the database in {} is in use by another sagaline process; stop it first", path.display())]
    InUse {
        /// The server's folder.
        path: PathBuf,
    },

    /// `initdb` refused.
    #[error("initdb failed: {output}")]
    Initdb {
        /// What it printed.
        output: String,
    },

    /// `pg_basebackup` could not copy the server.
    #[error("pg_basebackup failed: {output}")]
    Copy {
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

    /// The server did not become ready in time; its log says what it is doing.
    #[error("the server (process {pid}) was not ready after {waited:?}; see {}", log.display())]
    NotReady {
        /// The server's process id.
        pid: i32,
        /// How long this process waited.
        waited: Duration,
        /// The server's log.
        log: PathBuf,
    },

    /// The server did not end, not even on an immediate shutdown.
    #[error("the server (process {pid}) does not stop")]
    WontStop {
        /// The server's process id.
        pid: i32,
    },

    /// The embedded PostgreSQL answered a statement with an error.
    #[error("the embedded server failed")]
    Sql(#[from] sqlx::Error),
}

impl EmbeddedError {
    /// A closure that turns an I/O error on `path` into [`EmbeddedError::Io`].
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
