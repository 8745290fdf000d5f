//! The real program in a separate process, to be observed, stopped and killed.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::WAIT_TIMEOUT;

/// The variables that a process inherits from the tests' environment.
const INHERITED: [&str; 9] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "LLVM_PROFILE_FILE",
    "SAGALINE_PG_BIN",
    "SAGALINE_REDIS_BIN",
];

/// A running `sagaline`; it is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    lines: watch::Receiver<Vec<String>>,
}

impl Process {
    /// Starts `sagaline` with arguments and environment variables.
    pub(crate) fn sagaline(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sagaline"));
        command.args(args).env_clear().envs(env.iter().copied());
        Self::start(command)
    }

    /// Runs `sagaline` to its end; returns the exit code and the output.
    pub(crate) async fn run(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut process = Self::sagaline(args, env);
        let status = process.wait().await;
        (status.code(), process.output())
    }

    /// As [`Process::start`], with a folder of its own for temporary files.
    pub(crate) fn start_in(command: Command, temp: &Path) -> Self {
        Self::start_with(command, Some(temp))
    }

    /// Starts any program, with the inherited variables only.
    pub(crate) fn start(command: Command) -> Self {
        Self::start_with(command, None)
    }

    fn start_with(mut command: Command, temp: Option<&Path>) -> Self {
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(temp) = temp {
            command.env("TMPDIR", temp);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).expect("a running child has an id");
        let (sender, lines) = watch::channel(Vec::new());
        tokio::spawn(collect(child.stdout.take().expect("stdout is piped"), sender.clone()));
        tokio::spawn(collect(child.stderr.take().expect("stderr is piped"), sender));
        Self { child, pid: Pid::from_raw(pid), lines }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// The output of the process so far, both streams together.
    pub(crate) fn output(&self) -> String {
        self.lines.borrow().join("\n")
    }

    /// Waits for a line that contains the text, and returns the first such line.
    ///
    /// # Panics
    /// With the output, when the process ends or a minute passes without it.
    pub(crate) async fn wait_for_line(&self, text: &str) -> String {
        let mut lines = self.lines.clone();
        let find = |lines: &Vec<String>| lines.iter().find(|line| line.contains(text)).cloned();
        let waited = tokio::time::timeout(WAIT_TIMEOUT, lines.wait_for(|lines| find(lines).is_some())).await;
        match waited {
            Ok(Ok(lines)) => find(&lines).expect("the condition held"),
            Ok(Err(_)) => panic!("the process ended without saying {text:?}:\n{}", self.output()),
            Err(tokio::time::error::Elapsed { .. }) => {
                panic!("the process has not printed {text:?} for {WAIT_TIMEOUT:?}:\n{}", self.output())
            }
        }
    }

    /// Waits for the end of the process and of its output.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let waited = tokio::time::timeout(WAIT_TIMEOUT, self.child.wait()).await;
        let Ok(status) = waited else {
            panic!("the process has not ended for {WAIT_TIMEOUT:?}:\n{}", self.output());
        };
        while self.lines.changed().await.is_ok() {}
        status.expect("our own child can be waited for")
    }

    /// Kills the process as a crash would, and waits until it has ended.
    pub(crate) async fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait().await;
    }

    /// Asks the process to stop.
    pub(crate) fn sigterm(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Sends the signal of Ctrl-C.
    pub(crate) fn sigint(&self) {
        self.signal(Signal::SIGINT);
    }

    /// Suspends the process, as a long pause of its machine would; returns once it is suspended.
    pub(crate) async fn sigstop(&self) {
        self.signal(Signal::SIGSTOP);
        tokio::time::timeout(WAIT_TIMEOUT, async {
            while !self.is_suspended().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the process is suspended");
    }

    /// Continues a suspended process.
    pub(crate) fn sigcont(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Whether the process is suspended.
    async fn is_suspended(&self) -> bool {
        let pid = self.pid.to_string();
        let ps = Command::new("ps").args(["-o", "state=", "-p", &pid]).output().await.expect("ps runs");
        ps.stdout.trim_ascii_start().starts_with(b"T")
    }

    fn signal(&self, signal: Signal) {
        // After it was reaped, its id may belong to another process.
        assert!(self.child.id().is_some(), "the process has ended:\n{}", self.output());
        kill(self.pid, signal).expect("our own child takes signals");
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "the test harness shows it beside the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("process {} has printed:\n{}", self.pid, self.output());
        }
    }
}

async fn collect(stream: impl AsyncRead + Unpin, lines: watch::Sender<Vec<String>>) {
    let mut reader = BufReader::new(stream).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        lines.send_modify(|lines| lines.push(line));
    }
}
