//! A private PgBouncer for tests: on a free loopback port, before an embedded PostgreSQL.

use std::{
    env,
    fs::{self, File, Permissions},
    io,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::unistd::{User, geteuid};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{
    child::end,
    port::free_port,
    postgres::{Cluster, PROCESS_ROLE},
};

/// How long it may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// How many ports are tried; another process can take one between the look and the start.
const ATTEMPTS: usize = 10;

/// Debian keeps it where only root looks.
const DIRS: [&str; 5] =
    ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/home/linuxbrew/.linuxbrew/bin"];

/// Users that root may run it as; it refuses to run as root.
const USERS: [&str; 3] = ["postgres", "nobody", "daemon"];

/// Why PgBouncer can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PgBouncerError {
    /// The program is missing; install it.
    #[error(
        "no pgbouncer in SAGALINE_PGBOUNCER_BIN, PATH or {}; install it with `apt-get install pgbouncer` or `brew install \
         pgbouncer`, or set SAGALINE_PGBOUNCER_BIN to the program",
        DIRS.join(", ")
    )]
    NotFound,

    /// The program or its files can't be used.
    #[error("can't {action}")]
    Io {
        /// What was tried.
        action: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },

    /// It ended or takes no connections.
    #[error("PgBouncer takes no connections on port {port}; its log:\n{log}")]
    Silent {
        /// The last port tried.
        port: u16,
        /// What it printed.
        log: String,
    },
}

impl PgBouncerError {
    fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action: action.into(), source }
    }
}

/// A running PgBouncer; it is killed when this is dropped.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    child: Child,
    dir: TempDir,
}

impl PgBouncer {
    /// Starts one before a server, with these settings of the section `pgbouncer`, and waits until it takes connections.
    ///
    /// # Errors
    /// [`PgBouncerError::NotFound`] with the install command when the program is missing.
    pub async fn start(cluster: &Cluster, settings: &[(&str, &str)]) -> Result<Self, PgBouncerError> {
        let program = find().ok_or(PgBouncerError::NotFound)?;
        // It may run as another user, who has to be able to enter the folder.
        let dir = tempfile::Builder::new()
            .prefix("sagaline-pgbouncer-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .map_err(PgBouncerError::io("make a folder for PgBouncer"))?;
        let mut port = 0;
        for _ in 0..ATTEMPTS {
            port = free_port();
            let mut child = spawn(&program, dir.path(), &configuration(dir.path(), cluster, port, settings))?;
            if until_ready(&mut child, port).await {
                return Ok(Self { port, child, dir });
            }
            end(&mut child);
        }
        let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        Err(PgBouncerError::Silent { port, log })
    }

    /// The URL of a database for the role of the processes.
    pub fn process_url(&self, database: &str) -> String {
        format!("postgres://{PROCESS_ROLE}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// The URL of a database for its owner.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://sagaline@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn find() -> Option<PathBuf> {
    if let Some(program) = env::var_os("SAGALINE_PGBOUNCER_BIN").filter(|program| !program.is_empty()) {
        return Some(PathBuf::from(program));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(DIRS.map(PathBuf::from));
    dirs.map(|dir| dir.join("pgbouncer")).find(|program| program.is_file())
}

fn configuration(dir: &Path, cluster: &Cluster, port: u16, settings: &[(&str, &str)]) -> String {
    let users = dir.join("users");
    let mut lines = vec![
        "[databases]".to_owned(),
        format!("* = host={} port={}", cluster.socket_dir().display(), Cluster::PORT),
        "[pgbouncer]".to_owned(),
        "listen_addr = 127.0.0.1".to_owned(),
        format!("listen_port = {port}"),
        "unix_socket_dir =".to_owned(),
        "auth_type = trust".to_owned(),
        format!("auth_file = {}", users.display()),
    ];
    lines.extend(settings.iter().map(|(name, value)| format!("{name} = {value}")));
    lines.push(String::new());
    lines.join("\n")
}

fn spawn(program: &Path, dir: &Path, configuration: &str) -> Result<Child, PgBouncerError> {
    let run = || {
        fs::write(dir.join("users"), format!("\"sagaline\" \"\"\n\"{PROCESS_ROLE}\" \"\"\n"))?;
        fs::write(dir.join("pgbouncer.ini"), configuration)?;
        let log = File::create(dir.join("log"))?;
        let mut command = Command::new(program);
        let user = USERS.iter().find_map(|name| User::from_name(name).ok().flatten());
        if let Some(user) = user.filter(|_| geteuid().is_root()) {
            command.arg("-u").arg(user.name);
        }
        command
            .arg(dir.join("pgbouncer.ini"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    };
    run().map_err(PgBouncerError::io(format!("run {}", program.display())))
}

/// Waits until the process takes connections; `false` when it ended instead, as it does when its port is taken.
async fn until_ready(child: &mut Child, port: u16) -> bool {
    let started = Instant::now();
    while started.elapsed() < START_TIMEOUT && matches!(child.try_wait(), Ok(None)) {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return true;
        }
        tokio::time::sleep(POLL).await;
    }
    false
}
