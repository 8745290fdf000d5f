//! Whom the server runs as: us, or a harmless user when we are root, which PostgreSQL refuses.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User, geteuid};

use super::EmbeddedError;

/// Users that root may run the server as, the fittest first.
const CANDIDATES: [&str; 3] = ["postgres", "nobody", "daemon"];

/// The user that owns the data and runs the server.
#[derive(Debug)]
pub(super) enum Owner {
    /// The user that we are.
    Ourselves { uid: u32 },
    /// Another user, because we are root.
    Dropped { name: String, uid: u32, gid: u32 },
}

impl Owner {
    /// Chooses the owner of the data directory, or a fit user when there is no data yet.
    pub(super) fn choose(data: &Path) -> Result<Self, EmbeddedError> {
        let owner = match fs::metadata(data) {
            Ok(metadata) => Some(metadata.uid()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(EmbeddedError::io("look at", data)(error)),
        };
        let me = geteuid();
        match owner {
            None if me.is_root() => Self::candidate(),
            None => Ok(Self::Ourselves { uid: me.as_raw() }),
            Some(uid) if me.is_root() && uid != 0 => Self::dropped(uid),
            Some(uid) if uid == me.as_raw() && !me.is_root() => Ok(Self::Ourselves { uid }),
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

    fn dropped(uid: u32) -> Result<Self, EmbeddedError> {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        user.map(Self::from).ok_or(EmbeddedError::NoServerUser)
    }

    pub(super) fn uid(&self) -> u32 {
        match self {
            Self::Ourselves { uid } | Self::Dropped { uid, .. } => *uid,
        }
    }

    /// Makes the command run as this user, somewhere every user can be.
    pub(super) fn apply(&self, command: &mut Command) {
        command.current_dir("/");
        match self {
            Self::Ourselves { .. } => {}
            Self::Dropped { uid, gid, .. } => {
                command.uid(*uid).gid(*gid);
            }
        }
    }

    /// Gives a file that we made to this user.
    pub(super) fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        match self {
            Self::Ourselves { .. } => Ok(()),
            Self::Dropped { uid, gid, .. } => {
                chown(path, Some(*uid), Some(*gid)).map_err(EmbeddedError::io("change the owner of", path))
            }
        }
    }

    /// Checks that this user can get to a folder, which root's view doesn't tell.
    pub(super) fn check_way_to(&self, path: &Path) -> Result<(), EmbeddedError> {
        let Self::Dropped { name, uid, gid } = self else {
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

impl From<User> for Owner {
    fn from(user: User) -> Self {
        Self::Dropped { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }
    }
}
