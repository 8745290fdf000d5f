//! A private Redis for tests and demonstrations: on a free loopback port, in memory only.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// How many ports are tried; another process can take one between our look and the server's start.
const ATTEMPTS: usize = 10;

/// Below the ports that systems hand out to outgoing connections (from 32768 on Linux, 49152 elsewhere): a
/// client that tries again and again to reach a port in that range while nobody listens can connect to
/// itself.
const PORTS: std::ops::Range<u16> = 15_000..30_000;

/// Programs that speak the protocol, the fittest first.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

const DIRS: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/home/linuxbrew/.linuxbrew/bin"];

/// Says why there is no Redis.
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
        /// The program.
        program: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },

    /// The server ended or stayed silent.
    #[error("{} did not answer on port {port}", program.display())]
    Silent {
        /// The program.
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
    /// The working directory, where nothing is ever written.
    dir: TempDir,
}

impl RedisServer {
    /// Starts a server on a free port of 127.0.0.1 and waits until it answers.
    ///
    /// # Errors
    ///
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

    /// Returns the URL, without a password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills the server as a crash would: every key and every connection is gone.
    pub fn kill(&mut self) {
        end(&mut self.child);
    }

    /// Starts the server anew, empty, on the same port; kills it first if it runs.
    ///
    /// # Errors
    ///
    /// [`RedisError::Silent`] when the port is taken by another process for too long.
    pub async fn restart(&mut self) -> Result<(), RedisError> {
        end(&mut self.child);
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
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

fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let random = || rand::random_range(PORTS);
    std::iter::repeat_with(random).take(100).find(is_free).unwrap_or(PORTS.start)
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

/// Kills and buries the process; one that has ended already is left in peace.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits until the process answers; false when it ended instead, as it does when its port is taken.
async fn until_ready(child: &mut Child, port: u16) -> bool {
    let started = Instant::now();
    while started.elapsed() < PATIENCE && matches!(child.try_wait(), Ok(None)) {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, process_id(port)).await;
        if let Ok(Ok(Some(pid))) = answer {
            // Another's server may have taken the port: then ours is about to end.
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
