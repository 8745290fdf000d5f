//! A private RabbitMQ for tests: a node of its own on free loopback ports, with its own name server and its data in a
//! temporary directory, so that it meets no other and a killed one leaves nothing that runs.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::WAIT_TIMEOUT;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Below the ports that systems hand out to outgoing connections, as for Redis.
const PORTS: std::ops::Range<u16> = 15_000..30_000;

/// Where packages put the script itself; what Debian has in `PATH` is a wrapper that wants to be root.
const SCRIPTS: [&str; 3] = [
    "/usr/lib/rabbitmq/lib",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
];

/// A running RabbitMQ; it is killed when this is dropped.
pub(crate) struct RabbitServer {
    script: PathBuf,
    port: u16,
    distribution_port: u16,
    names_port: u16,
    names: Child,
    child: Child,
    dir: TempDir,
}

impl RabbitServer {
    /// Starts a node and waits until it takes connections.
    ///
    /// # Panics
    ///
    /// When RabbitMQ is missing, with what installs it, or does not start, with its log.
    pub(crate) async fn start() -> Self {
        tokio::task::spawn_blocking(|| {
            let script = find();
            let dir = tempfile::Builder::new().prefix("sagaline-rabbit-").tempdir().unwrap();
            fs::write(dir.path().join("plugins"), "[].\n").unwrap();
            let [port, distribution_port, names_port] = [free_port(), free_port(), free_port()];
            let names = Command::new("epmd")
                .args(["-address", "127.0.0.1", "-port", &names_port.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("Erlang's epmd is in PATH, as rabbitmq-server needs it");
            // A node that does not find it starts one of its own, which would outlive us.
            until_listening(names_port);
            let child = spawn(&script, dir.path(), port, distribution_port, names_port);
            let mut server = Self { script, port, distribution_port, names_port, names, child, dir };
            server.until_ready();
            server
        })
        .await
        .unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// Kills the node as a crash would; what it has on disk stays.
    pub(crate) fn kill(&mut self) {
        end_group(&mut self.child);
    }

    /// Starts the node anew on the same port and data.
    pub(crate) async fn restart(mut self) -> Self {
        tokio::task::spawn_blocking(move || {
            end_group(&mut self.child);
            let (port, distribution_port) = (self.port, self.distribution_port);
            self.child = spawn(&self.script, self.dir.path(), port, distribution_port, self.names_port);
            self.until_ready();
            self
        })
        .await
        .unwrap()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Tells the node something with `rabbitmqctl`, and gives what it says.
    pub(crate) async fn control(&self, args: &[&str]) -> String {
        let mut command = Command::new(self.script.with_file_name("rabbitmqctl"));
        command
            .arg("--quiet")
            .args(args)
            .envs(settings(self.dir.path(), self.port, self.distribution_port, self.names_port))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn until_ready(&mut self) {
        let started = Instant::now();
        while started.elapsed() < WAIT_TIMEOUT {
            if greets(self.port) {
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("RabbitMQ ended with {status}:\n{}", log(self.dir.path()));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        panic!("RabbitMQ takes no connections after {WAIT_TIMEOUT:?}:\n{}", log(self.dir.path()));
    }
}

impl Drop for RabbitServer {
    fn drop(&mut self) {
        end_group(&mut self.child);
        end(&mut self.names);
    }
}

fn find() -> PathBuf {
    if let Some(script) = std::env::var_os("SAGALINE_RABBITMQ_BIN").filter(|script| !script.is_empty()) {
        return PathBuf::from(script);
    }
    let versions = fs::read_dir(SCRIPTS[0]).into_iter().flatten().flatten();
    let debian = versions.map(|entry| entry.path().join("sbin/rabbitmq-server"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("rabbitmq-server")).collect::<Vec<_>>();
    debian
        .chain(SCRIPTS[1..].iter().map(PathBuf::from))
        .chain(in_path)
        .find(|script| script.is_file())
        .unwrap_or_else(|| {
            panic!(
                "no rabbitmq-server in SAGALINE_RABBITMQ_BIN, {} or PATH; install it with `apt-get install \
                 rabbitmq-server` or `brew install rabbitmq`, or set SAGALINE_RABBITMQ_BIN to its sbin/rabbitmq-server",
                SCRIPTS.join(", ")
            )
        })
}

fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let random = || rand::random_range(PORTS);
    std::iter::repeat_with(random).take(100).find(is_free).expect("there is a free port")
}

fn spawn(script: &Path, dir: &Path, port: u16, distribution_port: u16, names_port: u16) -> Child {
    let log = File::create(dir.join("log.txt")).unwrap();
    Command::new(script)
        .envs(settings(dir, port, distribution_port, names_port))
        // A killed node leaves a dump where it stands.
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        // The script waits for the virtual machine that it starts; both are killed as a group.
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{} can't be run: {error}", script.display()))
}

/// What tells a node, and who speaks to it, where it lives.
fn settings(dir: &Path, port: u16, distribution_port: u16, names_port: u16) -> [(&'static str, String); 14] {
    [
        ("HOME", dir.display().to_string()),
        ("RABBITMQ_MNESIA_BASE", dir.join("mnesia").display().to_string()),
        ("RABBITMQ_LOG_BASE", dir.join("log").display().to_string()),
        ("RABBITMQ_LOGS", "-".into()),
        ("RABBITMQ_PID_FILE", dir.join("pid").display().to_string()),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins").display().to_string()),
        ("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq").display().to_string()),
        ("RABBITMQ_CONF_ENV_FILE", dir.join("rabbitmq-env.conf").display().to_string()),
        ("RABBITMQ_NODENAME", format!("sagaline-{port}@localhost")),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
        ("RABBITMQ_NODE_PORT", port.to_string()),
        ("RABBITMQ_DIST_PORT", distribution_port.to_string()),
        ("ERL_EPMD_PORT", names_port.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
    ]
}

/// Whether a server answers to the protocol's first words with its own.
fn greets(port: u16) -> bool {
    let greeted = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        Ok::<_, std::io::Error>(kind == [1])
    };
    greeted().unwrap_or(false)
}

fn until_listening(port: u16) {
    let started = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(started.elapsed() < WAIT_TIMEOUT, "epmd does not listen on port {port}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("log.txt")).unwrap_or_default()
}

/// Kills and buries the process with all that it started; one that was buried already is left in peace.
fn end_group(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None))
        && let Ok(group) = i32::try_from(child.id())
    {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ = child.wait();
}

/// Kills and buries the process; one that has ended already is left in peace.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
