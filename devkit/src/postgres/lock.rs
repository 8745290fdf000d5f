//! File locks that let several processes share one cluster; the kernel drops a killed process' locks.
//!
//! `start.lock` is held exclusively while somebody starts, adopts, stops or resets the server.
//! `users.lock` is held shared for as long as somebody uses it, and is taken and tried only under
//! `start.lock`: whoever could then hold it exclusively is alone.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::EmbeddedError;

/// Longer than the longest start or stop, which other processes do under the lock.
const PATIENCE: Duration = Duration::from_mins(2);

const POLL: Duration = Duration::from_millis(20);

/// Takes the right to start or stop the server, waiting for whoever has it.
pub(super) async fn exclusive(path: &Path) -> Result<File, EmbeddedError> {
    take(path, File::try_lock).await
}

/// Becomes one of the server's users.
pub(super) async fn shared(path: &Path) -> Result<File, EmbeddedError> {
    take(path, File::try_lock_shared).await
}

/// Gives up a user's share and says whether nobody else has one; then the lock is held exclusively.
pub(super) fn is_last(users: &File) -> std::io::Result<bool> {
    users.unlock()?;
    is_free(users)
}

/// Takes the lock exclusively if nobody has it.
pub(super) fn is_free(lock: &File) -> std::io::Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Opens a lock file, making it if needed.
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
            Err(TryLockError::WouldBlock) if started.elapsed() > PATIENCE => {
                return Err(EmbeddedError::Locked { path: path.to_owned(), waited: PATIENCE });
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL).await,
        }
    }
}
