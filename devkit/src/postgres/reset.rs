//! Removes the embedded PostgreSQL's data, and nothing else.

use std::{fs, io, path::Path};

use super::{
    error::EmbeddedError,
    lock, postmaster, socket,
    state_dir::{Layout, StateDir},
};

/// Stops the server and removes its data, socket and logs; does nothing when there are none.
///
/// The folder and its lock files stay, because other processes may be waiting for the locks.
///
/// # Errors
/// [`EmbeddedError::InUse`] when another process uses the server, [`EmbeddedError::Foreign`] when the folder is not one
/// that Sagaline made.
///
/// # Cancel safety
/// A cancelled reset may leave some files; the next one removes them.
pub async fn reset(state_dir: &StateDir) -> Result<(), EmbeddedError> {
    let Some(layout) = Layout::existing(state_dir)? else {
        return Ok(());
    };
    let _stopping = lock::exclusive(&layout.start_lock()).await?;
    let users = lock::open(&layout.users_lock())?;
    if !lock::is_free(&users).map_err(EmbeddedError::io("lock", &layout.users_lock()))? {
        return Err(EmbeddedError::InUse { path: layout.root().to_owned() });
    }
    postmaster::shut_down(&layout.data()).await?;
    if let Some(short) = socket::recorded(&layout)? {
        remove_socket_dir(&short)?;
    }
    for dir in [layout.data(), layout.new_data(), layout.run()] {
        remove(&dir, |dir| fs::remove_dir_all(dir))?;
    }
    for file in [layout.socket_record(), layout.log(), layout.old_log()] {
        remove(&file, |file| fs::remove_file(file))?;
    }
    Ok(())
}

/// Removes the short socket directory with what a server leaves in it, and fails if anything else is there.
fn remove_socket_dir(dir: &Path) -> Result<(), EmbeddedError> {
    let socket = socket::file(dir);
    let mut lock = socket.clone().into_os_string();
    lock.push(".lock");
    remove(&socket, |file| fs::remove_file(file))?;
    remove(Path::new(&lock), |file| fs::remove_file(file))?;
    remove(dir, |dir| fs::remove_dir(dir))
}

fn remove(path: &Path, how: impl Fn(&Path) -> io::Result<()>) -> Result<(), EmbeddedError> {
    match how(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EmbeddedError::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
