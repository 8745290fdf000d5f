//! Where the server's socket is: in the state directory, or in a short one when the path gets too long.
//!
//! The system's limit is 108 bytes on Linux and 104 on macOS; 90 leaves room for both.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{env, str};

use nix::unistd::geteuid;

use super::owner::Owner;
use super::state_dir::Layout;
use super::{EmbeddedError, PORT};

const MAX_PATH_BYTES: usize = 90;

/// Returns a folder for the socket that only its owner (and root) can enter, making it if needed.
pub(super) fn directory(layout: &Layout, owner: &Owner) -> Result<PathBuf, EmbeddedError> {
    let usual = layout.run();
    if fits(&usual) {
        make(&usual)?;
        owner.give(&usual)?;
        return Ok(usual);
    }
    if let Some(recorded) = recorded(layout)?.filter(|dir| fits(dir) && is_private(dir, owner)) {
        return Ok(recorded);
    }
    let short = make_short(layout.root())?;
    owner.give(&short)?;
    let record = layout.socket_record();
    fs::write(&record, short.as_os_str().as_encoded_bytes()).map_err(EmbeddedError::io("write", &record))?;
    Ok(short)
}

/// Returns the short folder that an earlier start chose.
pub(super) fn recorded(layout: &Layout) -> Result<Option<PathBuf>, EmbeddedError> {
    let record = layout.socket_record();
    match fs::read_to_string(&record) {
        Ok(path) => Ok(Some(PathBuf::from(path))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EmbeddedError::io("read", &record)(error)),
    }
}

/// Names the socket's file, as PostgreSQL and its clients do.
pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}

fn fits(dir: &Path) -> bool {
    let path = file(dir);
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.len() <= MAX_PATH_BYTES && str::from_utf8(bytes).is_ok()
}

/// Says whether a folder under a world-writable one is still the one that we made.
fn is_private(dir: &Path, owner: &Owner) -> bool {
    fs::symlink_metadata(dir)
        .is_ok_and(|found| found.is_dir() && found.uid() == owner.uid() && found.mode() & 0o777 == 0o700)
}

fn make(dir: &Path) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(EmbeddedError::io("make", dir)(error)),
        Ok(()) | Err(_) => {
            fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(EmbeddedError::io("close", dir))
        }
    }
}

/// Makes a folder with a name that nobody can foresee, so nobody can have put something in its place.
fn make_short(root: &Path) -> Result<PathBuf, EmbeddedError> {
    let runtime = env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|dir| !geteuid().is_root() && dir.is_absolute() && fits(&dir.join("sagaline-xxxxxxxx")));
    let bases = runtime.into_iter().chain([PathBuf::from("/tmp")]);
    let mut failure = ErrorKind::NotFound.into();
    for base in bases {
        let made = tempfile::Builder::new()
            .prefix("sagaline-")
            .rand_bytes(8)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(base);
        match made {
            Ok(dir) => return Ok(dir.keep()),
            Err(error) => failure = error,
        }
    }
    Err(EmbeddedError::io("make a short socket folder for", root)(failure))
}
