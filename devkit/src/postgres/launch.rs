//! Starts the server, or finds the one that runs, and waits until it answers.

use std::{
    fs::{self, OpenOptions},
    io::ErrorKind,
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use sqlx::Connection;

use super::{
    binaries::Installation,
    connection::{self, PORT},
    error::EmbeddedError,
    options::Durability,
    postmaster::{self, Postmaster},
    server_user::ServerUser,
    socket,
    state_dir::Layout,
};

/// How long a start may take; after a crash the server first replays its log.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a server that reports itself ready may leave its socket unanswered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a killed server may take to exit.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(10);

/// How much of the log's end an error shows.
const TAIL_LINES: usize = 15;

/// The server that already runs, if there is one that answers.
///
/// Waits for a server that is starting or stopping. Stops one that never answers, for example because its socket was
/// deleted.
pub(super) async fn adopt(layout: &Layout) -> Result<Option<Postmaster>, EmbeddedError> {
    let data = layout.data();
    let started = Instant::now();
    loop {
        let Some(server) = Postmaster::read(&data)? else {
            return Ok(None);
        };
        if !server.is_alive(&data) {
            if postmaster::is_running(server.pid) {
                postmaster::forget_pid(&data)?;
            }
            return Ok(None);
        }
        if server.ready && answers(&server.socket_dir).await {
            return Ok(Some(server));
        }
        let is_cut_off = server.ready && !socket::file(&server.socket_dir).exists();
        if is_cut_off || (server.ready && started.elapsed() > ANSWER_TIMEOUT) {
            postmaster::shut_down(&data).await?;
            return Ok(None);
        }
        if started.elapsed() > START_TIMEOUT {
            return Err(EmbeddedError::NotReady {
                pid: server.pid,
                waited: START_TIMEOUT,
                log: layout.log(),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Starts the server and waits until it answers.
pub(super) async fn launch(
    installation: &Installation,
    layout: &Layout,
    user: &ServerUser,
    socket_dir: &Path,
    durability: Durability,
) -> Result<Postmaster, EmbeddedError> {
    let started = Instant::now();
    loop {
        let pid = spawn(installation, layout, user, socket_dir, durability)?;
        if let Some(server) = until_ready(pid, layout, started).await? {
            return Ok(server);
        }
        let tail = tail(&layout.log());
        // The back ends of a killed server exit on their own, but not at once.
        let has_orphans = tail.contains("pre-existing shared memory block");
        // The killed server itself may still be exiting, too, and hold its lock file.
        let is_exiting = holder_of_lock(&tail).is_some_and(|pid| {
            // Reaps the process if it is a child of this one.
            let is_running = postmaster::is_running(pid);
            !is_running || started.elapsed() < EXIT_TIMEOUT
        });
        if !(has_orphans || is_exiting) || started.elapsed() > START_TIMEOUT {
            return Err(EmbeddedError::Start { log: layout.log(), tail });
        }
        tokio::time::sleep(POLL * 10).await;
    }
}

/// The process that, according to PostgreSQL, holds the lock file of its socket or its data.
fn holder_of_lock(tail: &str) -> Option<i32> {
    if !(tail.contains("lock file") && tail.contains("already exists")) {
        return None;
    }
    tail.split("(PID ").nth(1)?.split(')').next()?.parse().ok()
}

/// Starts `postgres` in a new process group, so that a terminal's Ctrl-C doesn't reach it.
fn spawn(
    installation: &Installation,
    layout: &Layout,
    user: &ServerUser,
    socket_dir: &Path,
    durability: Durability,
) -> Result<i32, EmbeddedError> {
    let log = layout.log();
    // The log of the previous start says why that server ended.
    match fs::rename(&log, layout.old_log()) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(EmbeddedError::io("rename", &log)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
    let output = open().map_err(EmbeddedError::io("open", &log))?;
    let errors = output.try_clone().map_err(EmbeddedError::io("open", &log))?;
    let program = installation.program("postgres");
    let mut command = user.command(&program);
    command.arg("-D").arg(layout.data());
    for setting in settings(socket_dir, durability) {
        command.arg("-c").arg(setting);
    }
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    // The handle isn't kept: the server may outlive this process, and `postmaster` waits for it by its id.
    let child = command.spawn().map_err(EmbeddedError::io("run", &program))?;
    i32::try_from(child.id()).map_err(|_| EmbeddedError::io("run", &program)(ErrorKind::InvalidData.into()))
}

fn settings(socket_dir: &Path, durability: Durability) -> Vec<String> {
    // The value is a list: quotes keep a comma in the path from splitting it.
    let socket_dir = socket_dir.to_string_lossy().replace('"', "\"\"");
    let mut settings = vec![
        "listen_addresses=".to_owned(),
        format!("unix_socket_directories=\"{socket_dir}\""),
        format!("port={PORT}"),
        "cluster_name=sagaline".to_owned(),
        "max_connections=200".to_owned(),
        "shared_buffers=128MB".to_owned(),
        "max_wal_size=1GB".to_owned(),
        "jit=off".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
        "log_destination=stderr".to_owned(),
        "logging_collector=off".to_owned(),
    ];
    let durability: &[&str] = match durability {
        Durability::Durable => &["fsync=on", "synchronous_commit=on", "full_page_writes=on"],
        Durability::Throwaway => &[
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "wal_level=minimal",
            "max_wal_senders=0",
        ],
    };
    settings.extend(durability.iter().map(|setting| (*setting).to_owned()));
    settings
}

/// Waits until a started server answers; `None` when it ended instead.
async fn until_ready(
    pid: i32,
    layout: &Layout,
    started: Instant,
) -> Result<Option<Postmaster>, EmbeddedError> {
    let data = layout.data();
    while postmaster::is_running(pid) {
        if let Some(server) = Postmaster::read(&data)?.filter(|server| server.pid == pid && server.ready)
            && answers(&server.socket_dir).await
        {
            return Ok(Some(server));
        }
        if started.elapsed() > START_TIMEOUT {
            return Err(EmbeddedError::NotReady { pid, waited: START_TIMEOUT, log: layout.log() });
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(None)
}

/// Whether a server accepts connections. A refusal because all connections are in use counts as accepting.
async fn answers(socket_dir: &Path) -> bool {
    const TOO_MANY_CONNECTIONS: &str = "53300";
    match connection::connect(&connection::options(socket_dir, "postgres"), ANSWER_TIMEOUT).await {
        // Closing fails only if the server ended after it had answered; the next use will report that.
        Ok(connection) => connection.close().await.is_ok(),
        Err(sqlx::Error::Database(error)) => error.code().as_deref() == Some(TOO_MANY_CONNECTIONS),
        Err(_) => false,
    }
}

fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().rev().take(TAIL_LINES).collect();
    lines.reverse();
    lines.join("\n")
}
