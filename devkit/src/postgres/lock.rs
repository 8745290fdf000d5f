//! File locks through which several processes share one server; the kernel drops the locks of a killed process.
//!
//! `start.lock` is held exclusively while a process starts, adopts, stops or resets the server. `users.lock` is held shared
//! as long as a process uses the server. It is taken and tried only under `start.lock`, so a process that could hold it
//! exclusively is the only user.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use super::error::EmbeddedError;

/// Longer than the longest start or stop of another process under the lock.
const LOCK_TIMEOUT: Duration = Duration::from_mins(2);

const POLL: Duration = Duration::from_millis(20);

/// Takes the right to start or stop the server; waits for the process that has it.
pub(super) async fn exclusive(path: &Path) -> Result<File, EmbeddedError> {
    take(path, File::try_lock).await
}

/// Registers this process as a user of the server.
pub(super) async fn shared(path: &Path) -> Result<File, EmbeddedError> {
    take(path, File::try_lock_shared).await
}

/// Gives up a share; `true` if no other process has one, and then the lock is held exclusively.
pub(super) fn is_last(users: &File) -> std::io::Result<bool> {
    users.unlock()?;
    is_free(users)
}

/// Takes the lock exclusively if no process holds it; whether it was free.
pub(super) fn is_free(lock: &File) -> std::io::Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Opens a lock file, and makes it if it is missing.
pub(super) fn open(path: &Path) -> Result<File, EmbeddedError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(EmbeddedError::io("open", path))
}

async fn take(path: &Path, try_lock: fn(&File) -> Result<(), TryLockError>) -> Result<File, EmbeddedError> {
    let file = open(path)?;
    let started = Instant::now();
    loop {
        match try_lock(&file) {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(EmbeddedError::io("lock", path)(error)),
            Err(TryLockError::WouldBlock) if started.elapsed() > LOCK_TIMEOUT => {
                return Err(EmbeddedError::Locked { path: path.to_owned(), waited: LOCK_TIMEOUT });
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL).await,
        }
    }
}
