//! The running server as `postmaster.pid` describes it: its process, whether that is alive, and how to stop it.
//!
//! The file's lines are: process id, data directory, start time, port, socket directory, listen address,
//! shared memory key, status. See `src/include/utils/pidfile.h` in PostgreSQL's source.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::error::EmbeddedError;

/// How long a fast shutdown may take: it writes a checkpoint.
const FAST_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an immediate shutdown may take: it writes nothing.
const IMMEDIATE_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(10);

/// Above every system's largest process id, so that no process can have it.
const NO_PROCESS: &str = "1999999999";

/// The content of `postmaster.pid`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: i32,
    pub(super) socket_dir: PathBuf,
    pub(super) ready: bool,
}

impl Postmaster {
    /// Reads the file of a data directory; `None` when the server was stopped in an orderly way.
    pub(super) fn read(data: &Path) -> Result<Option<Self>, EmbeddedError> {
        let path = data.join("postmaster.pid");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(EmbeddedError::io("read", &path)(error)),
        }
    }

    /// A file that is still being written has fewer lines; it is then not ready.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok().filter(|pid| *pid > 1)?;
        let socket_dir = PathBuf::from(lines.nth(3).unwrap_or_default());
        let ready = lines.nth(2).is_some_and(|status| status.trim() == "ready");
        Some(Self { pid, socket_dir, ready })
    }

    /// Whether the process lives and is this data directory's server, not another process that got the id later.
    pub(super) fn is_alive(&self, data: &Path) -> bool {
        is_running(self.pid) && serves(self.pid, data)
    }
}

/// Whether a process lives; reaps it if it is a child of this process that has ended.
pub(super) fn is_running(pid: i32) -> bool {
    let pid = Pid::from_raw(pid);
    match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => false,
        Ok(_) => true,
        Err(_) => kill(pid, None) != Err(Errno::ESRCH),
    }
}

/// Asks for a fast shutdown without waiting for it.
pub(super) fn interrupt(pid: i32) {
    // It fails when the process has already ended, which is the aim.
    let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
}

/// Stops the server of a data directory, if one runs.
pub(super) async fn shut_down(data: &Path) -> Result<(), EmbeddedError> {
    let Some(server) = Postmaster::read(data)?.filter(|server| server.is_alive(data)) else {
        return Ok(());
    };
    let shutdowns = [(Signal::SIGINT, FAST_SHUTDOWN_TIMEOUT), (Signal::SIGQUIT, IMMEDIATE_SHUTDOWN_TIMEOUT)];
    for (signal, timeout) in shutdowns {
        let _ = kill(Pid::from_raw(server.pid), signal);
        let started = Instant::now();
        while started.elapsed() < timeout {
            if !server.is_alive(data) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Err(EmbeddedError::WontStop { pid: server.pid })
}

/// Replaces the process id in the file by one that no process has, because another program has got that id.
///
/// PostgreSQL would take that program for a server and refuse to start. It still reads the shared memory key from the rest
/// of the file and so detects orphaned back ends of the old server, which would be lost if the file were deleted.
pub(super) fn forget_pid(data: &Path) -> Result<(), EmbeddedError> {
    let path = data.join("postmaster.pid");
    rewrite_first_line(&path).map_err(EmbeddedError::io("rewrite", &path))
}

fn rewrite_first_line(path: &Path) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    let mut file =
        OpenOptions::new().write(true).truncate(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    file.write_all(format!("{NO_PROCESS}\n{rest}").as_bytes())
}

/// Whether a process is the server of a data directory: the directory is its working directory, and the launcher names it
/// on the command line.
///
/// Either suffices, because root without `CAP_SYS_PTRACE`, as in a container, may not see another user's working directory,
/// and because the directory may have been renamed since the start.
fn serves(pid: i32, data: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    if Path::new("/proc/self").exists() {
        let inode = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        let cwd = inode(&process.join("cwd"));
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        return (cwd.is_some() && cwd == inode(data))
            || command.split(|byte| *byte == 0).any(|word| word == data.as_os_str().as_encoded_bytes());
    }
    // No /proc, as on macOS.
    Command::new("ps")
        .args(["-o", "command=", "-p", &pid.to_string()])
        .output()
        .is_ok_and(|ps| String::from_utf8_lossy(&ps.stdout).contains(&*data.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_file_names_process_socket_and_status() {
        let text = "71\n/state/data\n1700000000\n5432\n/state/run\n\n  1234 5\nready   \n";
        let expected = Postmaster { pid: 71, socket_dir: PathBuf::from("/state/run"), ready: true };
        assert_eq!(Postmaster::parse(text), Some(expected));
    }

    #[test]
    fn a_file_that_is_being_written_is_not_ready() {
        let server = Postmaster::parse("71\n/state/data\n17000").expect("the first line is whole");
        assert!(!server.ready);
        assert_eq!(Postmaster::parse(""), None);
        assert_eq!(Postmaster::parse("1\n"), None);
    }
}
