//! Creates the data directory, completely or not at all.

use std::{
    fs::{self, DirBuilder},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

use super::{
    binaries::Installation, connection::ROLE, error::EmbeddedError, options::Durability,
    server_user::ServerUser, state_dir::Layout,
};

/// Far above the second that `initdb` takes, for busy machines.
const INITDB_TIMEOUT: Duration = Duration::from_mins(2);

/// Locales to try, in order: `C.UTF-8` sorts by code point and knows upper and lower case; some systems lack it.
const LOCALES: [&str; 2] = ["--locale=C.UTF-8", "--no-locale"];

/// The major version of the existing data, if any.
pub(super) fn major_of(data: &Path) -> Result<Option<u32>, EmbeddedError> {
    let path = data.join("PG_VERSION");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(EmbeddedError::io("read", &path)(error)),
    };
    let invalid = || EmbeddedError::io("understand", &path)(ErrorKind::InvalidData.into());
    text.trim().parse().map(Some).map_err(|_| invalid())
}

/// Creates the data directory under a temporary name and renames it when it is complete.
pub(super) async fn run(
    installation: &Installation,
    layout: &Layout,
    user: &ServerUser,
    durability: Durability,
) -> Result<(), EmbeddedError> {
    let new = layout.new_data();
    let mut output = String::new();
    for locale in LOCALES {
        remove(&new)?;
        DirBuilder::new().mode(0o700).create(&new).map_err(EmbeddedError::io("make", &new))?;
        user.own(&new)?;
        user.check_access(&new)?;
        match attempt(installation, user, durability, &new, locale).await? {
            Ok(()) => {
                let data = layout.data();
                return fs::rename(&new, &data).map_err(EmbeddedError::io("make", &data));
            }
            Err(printed) => output = printed,
        }
    }
    remove(&new)?;
    Err(EmbeddedError::Initdb { output })
}

/// Runs `initdb` once. If it fails, the inner error is its output.
async fn attempt(
    installation: &Installation,
    user: &ServerUser,
    durability: Durability,
    new: &Path,
    locale: &str,
) -> Result<Result<(), String>, EmbeddedError> {
    let program = installation.program("initdb");
    let mut command = Command::from(user.command(&program));
    command
        .args(["--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--no-instructions", locale])
        .arg(format!("--username={ROLE}"))
        .arg("--pgdata")
        .arg(new)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match durability {
        Durability::Durable => {}
        Durability::Throwaway => {
            command.arg("--no-sync");
        }
    }
    match tokio::time::timeout(INITDB_TIMEOUT, command.output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(Ok(())),
        Ok(Ok(output)) => Ok(Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Ok(Err(error)) => Err(EmbeddedError::io("run", &program)(error)),
        Err(_) => Ok(Err(format!("not finished after {INITDB_TIMEOUT:?}"))),
    }
}

fn remove(dir: &Path) -> Result<(), EmbeddedError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(EmbeddedError::io("remove", dir)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
