//! Chooses the directory of the server's socket: in the state directory, or a short one when the path gets too long.
//!
//! A socket's path may have 108 bytes on Linux and 104 on macOS; 90 leaves room for both.

use std::{
    env,
    fs::{self, DirBuilder, Permissions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    str,
};

use nix::unistd::geteuid;

use super::{connection::PORT, error::EmbeddedError, server_user::ServerUser, state_dir::Layout};

const MAX_PATH_BYTES: usize = 90;

/// A directory for the socket that only the server's user (and root) can enter; made if it is missing.
pub(super) fn directory(layout: &Layout, user: &ServerUser) -> Result<PathBuf, EmbeddedError> {
    let preferred = layout.run();
    if fits(&preferred) {
        make(&preferred)?;
        user.own(&preferred)?;
        return Ok(preferred);
    }
    if let Some(recorded) = recorded(layout)?.filter(|dir| fits(dir) && is_private(dir, user)) {
        return Ok(recorded);
    }
    let short = make_short(layout.root())?;
    user.own(&short)?;
    let record = layout.socket_record();
    fs::write(&record, short.as_os_str().as_encoded_bytes()).map_err(EmbeddedError::io("write", &record))?;
    Ok(short)
}

/// The short directory that an earlier start chose.
pub(super) fn recorded(layout: &Layout) -> Result<Option<PathBuf>, EmbeddedError> {
    let record = layout.socket_record();
    match fs::read_to_string(&record) {
        Ok(path) => Ok(Some(PathBuf::from(path))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EmbeddedError::io("read", &record)(error)),
    }
}

/// The socket's file, as PostgreSQL and its clients name it.
pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}

fn fits(dir: &Path) -> bool {
    let path = file(dir);
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.len() <= MAX_PATH_BYTES && str::from_utf8(bytes).is_ok()
}

/// Whether a directory below a world-writable one is still the one that was made here.
fn is_private(dir: &Path, user: &ServerUser) -> bool {
    fs::symlink_metadata(dir)
        .is_ok_and(|found| found.is_dir() && found.uid() == user.uid() && found.mode() & 0o777 == 0o700)
}

fn make(dir: &Path) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(EmbeddedError::io("make", dir)(error)),
        Ok(()) | Err(_) => {
            fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(EmbeddedError::io("close", dir))
        }
    }
}

/// Makes a directory with an unpredictable name, so that no other user can have put something in its place.
fn make_short(root: &Path) -> Result<PathBuf, EmbeddedError> {
    let runtime = env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|dir| !geteuid().is_root() && dir.is_absolute() && fits(&dir.join("sagaline-xxxxxxxx")));
    let bases = runtime.into_iter().chain([PathBuf::from("/tmp")]);
    let mut last_error = ErrorKind::NotFound.into();
    for base in bases {
        let made = tempfile::Builder::new()
            .prefix("sagaline-")
            .rand_bytes(8)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(base);
        match made {
            Ok(dir) => return Ok(dir.keep()),
            Err(error) => last_error = error,
        }
    }
    Err(EmbeddedError::io("make a short socket folder for", root)(last_error))
}
