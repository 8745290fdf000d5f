//! Starts the server, or finds the one that runs, and waits until it answers.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection};

use super::cluster::Durability;
use super::initdb::without_postgres_variables;
use super::owner::Owner;
use super::postmaster::{self, Postmaster};
use super::state_dir::Layout;
use super::{EmbeddedError, Installation, PORT, ROLE, socket};

/// How long a start may take; after a crash the server first replays its log.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a server that says it is ready may leave its socket unanswered.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// How long a server that was killed may take to be gone.
const DYING_PATIENCE: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(10);

/// How much of the log's end an error shows.
const TAIL_LINES: usize = 15;

/// Returns the server that runs already, if one does and answers.
///
/// One that is starting or stopping is waited for. One that never answers, because its socket was
/// deleted, say, is stopped.
pub(super) async fn adopt(layout: &Layout) -> Result<Option<Postmaster>, EmbeddedError> {
    let data = layout.data();
    let started = Instant::now();
    loop {
        let Some(server) = Postmaster::read(&data)? else {
            return Ok(None);
        };
        if !server.is_alive(&data) {
            if postmaster::is_running(server.pid) {
                postmaster::disown(&data)?;
            }
            return Ok(None);
        }
        if server.ready && answers(&server.socket_dir).await {
            return Ok(Some(server));
        }
        let is_cut_off = server.ready && !socket::file(&server.socket_dir).exists();
        if is_cut_off || (server.ready && started.elapsed() > ANSWER_PATIENCE) {
            postmaster::shut_down(&data).await?;
            return Ok(None);
        }
        if started.elapsed() > PATIENCE {
            return Err(EmbeddedError::NotReady { pid: server.pid, waited: PATIENCE, log: layout.log() });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Starts the server and waits until it answers.
pub(super) async fn launch(
    installation: &Installation,
    layout: &Layout,
    owner: &Owner,
    socket_dir: &Path,
    durability: Durability,
) -> Result<Postmaster, EmbeddedError> {
    let started = Instant::now();
    loop {
        let pid = spawn(installation, layout, owner, socket_dir, durability)?;
        if let Some(server) = until_ready(pid, layout, started).await? {
            return Ok(server);
        }
        let tail = tail(&layout.log());
        // Back ends of a server that was killed go away by themselves, but not at once.
        let orphans = tail.contains("pre-existing shared memory block");
        // So does the server itself: a process that is being killed still has its id.
        let dying = holder_of_lock(&tail).is_some_and(|pid| {
            // Should it be our own child, this buries it.
            let is_running = postmaster::is_running(pid);
            !is_running || started.elapsed() < DYING_PATIENCE
        });
        if !(orphans || dying) || started.elapsed() > PATIENCE {
            return Err(EmbeddedError::Start { log: layout.log(), tail });
        }
        tokio::time::sleep(POLL * 10).await;
    }
}

/// The process that PostgreSQL says holds the lock file of its socket or its data.
fn holder_of_lock(tail: &str) -> Option<i32> {
    if !(tail.contains("lock file") && tail.contains("already exists")) {
        return None;
    }
    tail.split("(PID ").nth(1)?.split(')').next()?.parse().ok()
}

/// Starts `postgres` itself, in a process group of its own, so that a terminal's Ctrl-C doesn't reach it.
fn spawn(
    installation: &Installation,
    layout: &Layout,
    owner: &Owner,
    socket_dir: &Path,
    durability: Durability,
) -> Result<i32, EmbeddedError> {
    let log = layout.log();
    // The log of the start before tells why a server is gone.
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
    let mut command = Command::new(&program);
    command.arg("-D").arg(layout.data());
    for setting in settings(socket_dir, durability) {
        command.arg("-c").arg(setting);
    }
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    without_postgres_variables(&mut command);
    owner.apply(&mut command);
    // The handle isn't kept: the server may outlive us, and `postmaster` waits for it by its id.
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

/// Waits for a started server; nothing means that it ended instead.
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
        if started.elapsed() > PATIENCE {
            return Err(EmbeddedError::NotReady { pid, waited: PATIENCE, log: layout.log() });
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(None)
}

/// Says whether a server takes connections, which one that refuses for want of a free one does too.
async fn answers(socket_dir: &Path) -> bool {
    const TOO_MANY_CONNECTIONS: &str = "53300";
    match connect(&options(socket_dir, "postgres"), ANSWER_PATIENCE).await {
        // Closing can only fail if the server went away after it had answered; the next use finds out.
        Ok(connection) => connection.close().await.is_ok(),
        Err(sqlx::Error::Database(error)) => error.code().as_deref() == Some(TOO_MANY_CONNECTIONS),
        Err(_) => false,
    }
}

/// Returns how to connect to a database of the cluster, untouched by `PG…` variables.
pub(super) fn options(socket_dir: &Path, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(PORT)
        .username(ROLE)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
}

/// Connects within a time-out, which counts as the I/O error that it stands for.
pub(super) async fn connect(
    options: &PgConnectOptions,
    timeout: Duration,
) -> Result<PgConnection, sqlx::Error> {
    match tokio::time::timeout(timeout, options.connect()).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().rev().take(TAIL_LINES).collect();
    lines.reverse();
    lines.join("\n")
}
