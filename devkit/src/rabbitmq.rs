//! A private RabbitMQ for tests: a node on free loopback ports, with its own name server (epmd) and its data in a
//! temporary directory. It does not interfere with other nodes, and a killed node leaves no process behind.

use std::{
    env,
    fs::{self, File},
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
};

use crate::port::free_port;

/// A node takes some seconds to start, and more on a busy machine.
const START_TIMEOUT: Duration = Duration::from_mins(2);
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);

/// Where packages install the script itself; Debian's command in `PATH` is a wrapper that has to run as root.
const SCRIPTS: [&str; 3] = [
    "/usr/lib/rabbitmq/lib",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
];

/// Why RabbitMQ can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RabbitError {
    /// The script is missing; install it.
    #[error(
        "no rabbitmq-server in SAGALINE_RABBITMQ_BIN, {} or PATH; install it with `apt-get install rabbitmq-server` or \
         `brew install rabbitmq`, or set SAGALINE_RABBITMQ_BIN to its sbin/rabbitmq-server",
        SCRIPTS.join(", ")
    )]
    NotFound,

    /// A program or a file of the node could not be used.
    #[error("can't {action}")]
    Io {
        /// The failed action, as a verb with its object.
        action: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },

    /// The node ended or takes no connections.
    #[error("RabbitMQ {state}; its log:\n{log}")]
    NotReady {
        /// The state of the node.
        state: String,
        /// The node's log.
        log: String,
    },

    /// `rabbitmqctl` reported a failure.
    #[error("rabbitmqctl {}: {message}", command.join(" "))]
    Control {
        /// The command's arguments.
        command: Vec<String>,
        /// What it printed.
        message: String,
    },
}

impl RabbitError {
    fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action: action.into(), source }
    }
}

/// A running RabbitMQ; it is killed when this is dropped.
#[derive(Debug)]
pub struct RabbitServer {
    script: PathBuf,
    ports: Ports,
    child: Child,
    /// Killed with this handle.
    _epmd: Child,
    dir: TempDir,
}

/// The ports of one node.
#[derive(Clone, Copy, Debug)]
struct Ports {
    amqp: u16,
    distribution: u16,
    epmd: u16,
}

impl RabbitServer {
    /// Starts a node and waits until it takes connections.
    ///
    /// # Errors
    /// [`RabbitError::NotFound`] with the install command when RabbitMQ is missing, [`RabbitError::NotReady`] with the log
    /// when it does not start.
    pub async fn start() -> Result<Self, RabbitError> {
        let script = find()?;
        let dir = tempfile::Builder::new().prefix("sagaline-rabbit-").tempdir();
        let dir = dir.map_err(RabbitError::io("make a directory for RabbitMQ"))?;
        let plugins = fs::write(dir.path().join("plugins"), "[].\n");
        plugins.map_err(RabbitError::io("write a file for RabbitMQ"))?;
        let ports = Ports { amqp: free_port(), distribution: free_port(), epmd: free_port() };
        let epmd = Command::new("epmd")
            .args(["-address", "127.0.0.1", "-port", &ports.epmd.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(RabbitError::io("run Erlang's epmd, which rabbitmq-server needs in PATH"))?;
        // A node that finds no epmd starts one, which would outlive this process.
        until_listening(ports.epmd).await?;
        let child = spawn(&script, dir.path(), ports)?;
        let mut server = Self { script, ports, child, _epmd: epmd, dir };
        server.until_ready().await?;
        Ok(server)
    }

    /// The URL, with the default user.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.ports.amqp)
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// Kills the node as a crash would; its data on disk stay.
    pub async fn kill(&mut self) {
        kill_group(&mut self.child);
        // Waiting fails only when the child was already waited for.
        let _ = self.child.wait().await;
    }

    /// Starts the node again on the same port and data; kills it first if it runs.
    ///
    /// # Errors
    /// As [`RabbitServer::start`].
    pub async fn restart(&mut self) -> Result<(), RabbitError> {
        self.kill().await;
        self.child = spawn(&self.script, self.dir.path(), self.ports)?;
        self.until_ready().await
    }

    /// Runs `rabbitmqctl` on the node and returns its output.
    ///
    /// # Errors
    /// [`RabbitError::Control`] with what it printed when it fails.
    pub async fn control(&self, args: &[&str]) -> Result<String, RabbitError> {
        let output = Command::new(self.script.with_file_name("rabbitmqctl"))
            .arg("--quiet")
            .args(args)
            .envs(settings(self.dir.path(), self.ports))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(RabbitError::io("run rabbitmqctl"))?;
        if !output.status.success() {
            let command = args.iter().map(|arg| (*arg).to_owned()).collect();
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(RabbitError::Control { command, message });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn until_ready(&mut self) -> Result<(), RabbitError> {
        let started = Instant::now();
        let failed = |state: String, dir: &Path| {
            Err(RabbitError::NotReady {
                state,
                log: fs::read_to_string(dir.join("log.txt")).unwrap_or_default(),
            })
        };
        while started.elapsed() < START_TIMEOUT {
            if greets(self.ports.amqp).await {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return failed(format!("ended with {status}"), self.dir.path());
            }
            tokio::time::sleep(POLL).await;
        }
        failed(format!("takes no connections after {START_TIMEOUT:?}"), self.dir.path())
    }
}

impl Drop for RabbitServer {
    fn drop(&mut self) {
        kill_group(&mut self.child);
    }
}

fn find() -> Result<PathBuf, RabbitError> {
    if let Some(script) = env::var_os("SAGALINE_RABBITMQ_BIN").filter(|script| !script.is_empty()) {
        return Ok(PathBuf::from(script));
    }
    let versions = fs::read_dir(SCRIPTS[0]).into_iter().flatten().flatten();
    let debian = versions.map(|entry| entry.path().join("sbin/rabbitmq-server"));
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|dir| dir.join("rabbitmq-server")).collect::<Vec<_>>();
    debian
        .chain(SCRIPTS[1..].iter().map(PathBuf::from))
        .chain(in_path)
        .find(|script| script.is_file())
        .ok_or(RabbitError::NotFound)
}

fn spawn(script: &Path, dir: &Path, ports: Ports) -> Result<Child, RabbitError> {
    let run = || {
        let log = File::create(dir.join("log.txt"))?;
        Command::new(script)
            .envs(settings(dir, ports))
            // A killed node leaves a dump in its working directory.
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // The script waits for the virtual machine that it starts; both are killed as a group.
            .process_group(0)
            .spawn()
    };
    run().map_err(RabbitError::io(format!("run {}", script.display())))
}

/// The environment of a node and of the programs that talk to it.
fn settings(dir: &Path, ports: Ports) -> [(&'static str, String); 14] {
    let file = |name: &str| dir.join(name).display().to_string();
    [
        ("HOME", dir.display().to_string()),
        ("RABBITMQ_MNESIA_BASE", file("mnesia")),
        ("RABBITMQ_LOG_BASE", file("log")),
        ("RABBITMQ_LOGS", "-".into()),
        ("RABBITMQ_PID_FILE", file("pid")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins")),
        ("RABBITMQ_CONFIG_FILE", file("rabbitmq")),
        ("RABBITMQ_CONF_ENV_FILE", file("rabbitmq-env.conf")),
        ("RABBITMQ_NODENAME", format!("sagaline-{}@localhost", ports.amqp)),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
        ("RABBITMQ_NODE_PORT", ports.amqp.to_string()),
        ("RABBITMQ_DIST_PORT", ports.distribution.to_string()),
        ("ERL_EPMD_PORT", ports.epmd.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
    ]
}

/// Whether a server answers the protocol's greeting.
async fn greets(port: u16) -> bool {
    let greeted = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        let mut kind = [0];
        stream.read_exact(&mut kind).await?;
        Ok::<_, io::Error>(kind == [1])
    };
    matches!(tokio::time::timeout(GREETING_TIMEOUT, greeted).await, Ok(Ok(true)))
}

async fn until_listening(port: u16) -> Result<(), RabbitError> {
    let started = Instant::now();
    while let Err(error) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        if started.elapsed() > START_TIMEOUT {
            return Err(RabbitError::io(format!("reach epmd on port {port}"))(error));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Kills the process and all processes that it started. A process that has been waited for has no id any more, and is
/// left alone.
fn kill_group(child: &mut Child) {
    if let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // It fails when the group has already ended, which is the aim.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}
