//! Child processes of this same binary, with a log file each.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use crate::config;

/// How long a process may take to stop after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A running child; it is killed when this is dropped.
pub(super) struct Process {
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts `sagaline <arguments>` with these settings only; none is inherited from the environment.
    pub(super) fn start(
        name: &str,
        arguments: &[&str],
        settings: &[(&str, String)],
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("can't find this binary")?;
        let log = logs.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("can't write {}", log.display()))?;
        let mut command = Command::new(program);
        for setting in config::settings() {
            command.env_remove(setting.name);
            if setting.is_secret {
                command.env_remove(format!("{}_FILE", setting.name));
            }
        }
        let child = command
            .args(arguments)
            .envs(settings.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("can't share a log file")?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start `sagaline {}`", arguments.join(" ")))?;
        let pid = child.id().context("the child ended at once")?;
        Ok(Self { child, pid, log })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Fails when the process has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(10)..].join("\n");
            anyhow::bail!(
                "process {} ended ({status}); the end of {}:\n{tail}",
                self.pid,
                self.log.display()
            );
        }
        Ok(())
    }

    /// Sends SIGKILL and waits for the end.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("can't kill process {}", self.pid))
    }

    /// Sends SIGTERM and waits for the end.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid).context("an invalid process id")?);
        if self.child.try_wait()?.is_none() {
            kill(pid, Signal::SIGTERM).with_context(|| format!("can't stop process {pid}"))?;
        }
        let status = tokio::time::timeout(STOP_TIMEOUT, self.child.wait())
            .await
            .with_context(|| format!("process {pid} does not stop on SIGTERM"))??;
        anyhow::ensure!(status.success(), "process {pid} stopped with {status}; see {}", self.log.display());
        Ok(())
    }
}
