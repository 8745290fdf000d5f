//! The user that the server runs as: the current one, or an unprivileged one when the current one is root, as which
//! PostgreSQL refuses to run.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::ErrorKind,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use nix::unistd::{Uid, User, geteuid};

use super::error::EmbeddedError;

/// Users that root may run the server as, the best first.
const CANDIDATES: [&str; 3] = ["postgres", "nobody", "daemon"];

/// The user that owns the data and runs the server.
#[derive(Debug)]
pub(super) enum ServerUser {
    /// The user who runs this process.
    Current { uid: u32 },
    /// Another user, because the current one is root.
    Unprivileged { name: String, uid: u32, gid: u32 },
}

impl ServerUser {
    /// Chooses the owner of the data directory, or one of the candidates when there are no data yet.
    pub(super) fn choose(data: &Path) -> Result<Self, EmbeddedError> {
        let owner = match fs::metadata(data) {
            Ok(metadata) => Some(metadata.uid()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(EmbeddedError::io("look at", data)(error)),
        };
        let me = geteuid();
        match owner {
            None if me.is_root() => Self::candidate(),
            None => Ok(Self::Current { uid: me.as_raw() }),
            Some(uid) if me.is_root() && uid != 0 => Self::unprivileged(uid),
            Some(uid) if uid == me.as_raw() && !me.is_root() => Ok(Self::Current { uid }),
            Some(uid) => Err(EmbeddedError::NotOurs { path: data.to_owned(), uid }),
        }
    }

    fn candidate() -> Result<Self, EmbeddedError> {
        CANDIDATES
            .iter()
            .filter_map(|name| User::from_name(name).ok().flatten())
            .find(|user| !user.uid.is_root())
            .map(Self::from)
            .ok_or(EmbeddedError::NoServerUser)
    }

    fn unprivileged(uid: u32) -> Result<Self, EmbeddedError> {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        user.map(Self::from).ok_or(EmbeddedError::NoServerUser)
    }

    pub(super) fn uid(&self) -> u32 {
        match self {
            Self::Current { uid } | Self::Unprivileged { uid, .. } => *uid,
        }
    }

    /// A command that runs as this user, in a directory that every user can enter, and without `PGPORT`, `PGDATA` and
    /// their like, which are meant for other servers.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        command.current_dir("/");
        match self {
            Self::Current { .. } => {}
            Self::Unprivileged { uid, gid, .. } => {
                command.uid(*uid).gid(*gid);
            }
        }
        command
    }

    /// Gives a file to this user.
    pub(super) fn own(&self, path: &Path) -> Result<(), EmbeddedError> {
        match self {
            Self::Current { .. } => Ok(()),
            Self::Unprivileged { uid, gid, .. } => {
                chown(path, Some(*uid), Some(*gid)).map_err(EmbeddedError::io("change the owner of", path))
            }
        }
    }

    /// Checks that this user can enter every directory on the way to a path, which root's own access does not show.
    pub(super) fn check_access(&self, path: &Path) -> Result<(), EmbeddedError> {
        let Self::Unprivileged { name, uid, gid } = self else {
            return Ok(());
        };
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        for dir in ancestors {
            let metadata = fs::metadata(dir).map_err(EmbeddedError::io("look at", dir))?;
            let bit = match &metadata {
                dir if dir.uid() == *uid => 0o100,
                dir if dir.gid() == *gid => 0o010,
                _ => 0o001,
            };
            if metadata.mode() & bit == 0 {
                return Err(EmbeddedError::Closed { dir: dir.to_owned(), user: name.clone() });
            }
        }
        Ok(())
    }
}

impl From<User> for ServerUser {
    fn from(user: User) -> Self {
        Self::Unprivileged { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }
    }
}
