//! Takes the embedded cluster away, and nothing else.

use std::fs;
use std::io;
use std::path::Path;

use super::state_dir::Layout;
use super::{EmbeddedError, StateDir, lock, postmaster, socket};

/// Stops the server and removes the data, the socket and the logs; does nothing when there are none.
///
/// The folder itself stays, with its locks, so that a process that waits for them finds them whole.
///
/// # Errors
///
/// [`EmbeddedError::InUse`] when another process uses the cluster, [`EmbeddedError::Foreign`] when the
/// folder isn't ours.
///
/// # Cancel safety
///
/// Cancelled, it may leave a part behind; calling it again removes the rest.
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

/// Removes the short folder with what a server leaves in it; anything else there is not ours.
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
