//! A private Redis for tests: on a free loopback port, in memory only.

use std::{
    env, fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{child::end, port::free_port};

/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// How many ports are tried; another process can take one between the look and the server's start.
const ATTEMPTS: usize = 10;

/// Programs that speak the protocol, the best first.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

const DIRS: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/home/linuxbrew/.linuxbrew/bin"];

/// Why Redis can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// The program is missing; install it.
    #[error(
        "no redis-server or valkey-server in SAGALINE_REDIS_BIN, PATH ({path}) or {}; install it with \
         `apt-get install redis-server` or `brew install redis`, or set SAGALINE_REDIS_BIN to the program",
        DIRS.join(", ")
    )]
    NotFound {
        /// What `PATH` was.
        path: String,
    },

    /// The program could not be run.
    #[error("can't run {}", program.display())]
    Run {
        /// The program `redis-server` that was started.
        program: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },

    /// The server ended or did not answer.
    #[error("{} did not answer on port {port}", program.display())]
    Silent {
        /// The program `redis-server` that was started.
        program: PathBuf,
        /// The last port tried.
        port: u16,
    },
}

/// A running Redis; it is killed when this is dropped.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    port: u16,
    child: Child,
    /// The working directory; the server writes nothing there.
    dir: TempDir,
}

impl RedisServer {
    /// Starts a server on a free port of 127.0.0.1 and waits until it answers.
    ///
    /// # Errors
    /// [`RedisError::NotFound`] with the install command when the program is missing.
    pub async fn start() -> Result<Self, RedisError> {
        let program = find()?;
        let failed = |source| RedisError::Run { program: program.clone(), source };
        let dir = tempfile::Builder::new().prefix("sagaline-redis-").tempdir().map_err(failed)?;
        let mut port = 0;
        for _ in 0..ATTEMPTS {
            port = free_port();
            let mut child = spawn(&program, port, dir.path())?;
            if until_ready(&mut child, port).await {
                return Ok(Self { program, port, child, dir });
            }
            end(&mut child);
        }
        Err(RedisError::Silent { program, port })
    }

    /// The URL; there is no password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills the server as a crash would: all keys and connections are lost.
    pub fn kill(&mut self) {
        end(&mut self.child);
    }

    /// Starts the server again, empty, on the same port; kills it first if it runs.
    ///
    /// # Errors
    /// [`RedisError::Silent`] when the port is taken by another process for too long.
    pub async fn restart(&mut self) -> Result<(), RedisError> {
        end(&mut self.child);
        let started = Instant::now();
        while started.elapsed() < START_TIMEOUT {
            self.child = spawn(&self.program, self.port, self.dir.path())?;
            if until_ready(&mut self.child, self.port).await {
                return Ok(());
            }
            end(&mut self.child);
        }
        Err(RedisError::Silent { program: self.program.clone(), port: self.port })
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn find() -> Result<PathBuf, RedisError> {
    let path = env::var_os("PATH").unwrap_or_default();
    if let Some(program) = env::var_os("SAGALINE_REDIS_BIN").filter(|program| !program.is_empty()) {
        let program = PathBuf::from(program);
        // A folder is accepted too, as SAGALINE_PG_BIN is one.
        return Ok(if program.is_dir() { program.join(PROGRAMS[0]) } else { program });
    }
    PROGRAMS
        .iter()
        .flat_map(|name| {
            env::split_paths(&path).chain(DIRS.map(PathBuf::from)).map(move |dir| dir.join(name))
        })
        .find(|program| fs::metadata(program).is_ok_and(|found| found.is_file()))
        .ok_or_else(|| RedisError::NotFound { path: Path::new(&path).display().to_string() })
}

fn spawn(program: &Path, port: u16, dir: &Path) -> Result<Child, RedisError> {
    Command::new(program)
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
        .args(["--daemonize", "no", "--dir"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| RedisError::Run { program: program.to_owned(), source })
}

/// Waits until the process answers; `false` when it ended instead, as it does when its port is taken.
async fn until_ready(child: &mut Child, port: u16) -> bool {
    let started = Instant::now();
    while started.elapsed() < START_TIMEOUT && matches!(child.try_wait(), Ok(None)) {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, process_id(port)).await;
        if let Ok(Ok(Some(pid))) = answer {
            // Another server may have taken the port; then this process is about to end.
            return pid == child.id();
        }
        tokio::time::sleep(POLL).await;
    }
    false
}

/// Asks the server on a port, by a PING and an INFO, who it is.
async fn process_id(port: u16) -> io::Result<Option<u32>> {
    const MAX_ANSWER_BYTES: u64 = 64 * 1024;
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    stream.write_all(b"PING\r\nINFO server\r\nQUIT\r\n").await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let pid = answer.lines().find_map(|line| line.strip_prefix("process_id:"));
    Ok(pid.filter(|_| answer.starts_with("+PONG")).and_then(|pid| pid.trim().parse().ok()))
}
