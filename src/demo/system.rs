//! The system that the demo runs: a private PostgreSQL, a mail server, an API process and a worker process.

use std::{
    fs::Permissions,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use devkit::postgres::{Cluster, DATABASE, Durability, Options, PROCESS_ROLE, StateDir};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{client::Client, mailbox::Mailbox, process::Process};
use crate::{
    config::{Config, SecretUrl},
    migrate,
    pool::{self, PoolUse},
    shutdown::Interrupted,
    terminal,
};

/// How long the API may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(15);
/// A dead worker's sagas are taken over after this time: the shortest that is allowed.
const LEASE_SECONDS: u64 = engine::SHORTEST_LEASE.as_secs();

/// The running system; end it with [`DemoSystem::stop`].
pub(super) struct DemoSystem {
    parts: Parts,
    cluster: Cluster,
    dir: TempDir,
}

/// What uses the database. Dropping it kills the processes.
struct Parts {
    pool: PgPool,
    mailbox: Mailbox,
    settings: Vec<(&'static str, String)>,
    client: Client,
    serve: Process,
    work: Option<Process>,
    work_port: u16,
}

impl DemoSystem {
    /// Starts the system in a new directory, without the environment's settings. If it can't be started, or `quit` comes
    /// first, nothing of it is left.
    pub(super) async fn start(config: &Config, quit: &CancellationToken) -> anyhow::Result<Self> {
        // PostgreSQL may run as another user, who must be able to enter the directory.
        let dir = tempfile::Builder::new()
            .prefix("sagaline-demo-")
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .context("can't make a directory for the demo")?;
        let options = Options {
            state_dir: StateDir::at(dir.path()),
            durability: Durability::Durable,
            search: config.embedded.search(),
        };
        // It is not dropped midway, because a server that is starting is stopped only once it runs.
        let cluster = Cluster::start(options).await?;
        let parts = tokio::select! {
            biased;
            () = quit.cancelled() => Err(Interrupted.into()),
            parts = Parts::start(&cluster, dir.path()) => parts,
        };
        match parts {
            Ok(parts) => Ok(Self { parts, cluster, dir }),
            Err(error) => {
                cluster.stop().await.context("can't stop PostgreSQL")?;
                dir.close().context("can't remove the demo's directory")?;
                Err(error)
            }
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.parts.client
    }

    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.parts.mailbox
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.parts.pool
    }

    /// Kills the worker with SIGKILL and returns its process id.
    pub(super) async fn kill_worker(&mut self) -> anyhow::Result<u32> {
        let work = self.parts.work.take().context("no worker is running")?;
        let pid = work.pid();
        work.kill().await?;
        Ok(pid)
    }

    /// Starts a worker and returns its process id.
    pub(super) fn start_worker(&mut self) -> anyhow::Result<u32> {
        let work = Process::start("work", &["work"], &self.parts.settings, self.dir.path())?;
        Ok(self.parts.work.insert(work).pid())
    }

    /// How many sagas the current worker took over from others.
    pub(super) async fn takeovers(&self) -> anyhow::Result<u64> {
        self.parts.client.counter(self.parts.work_port, "sagaline_leases_taken_over_total").await
    }

    /// Stops the system; keeps its directory if `keep` is set, and prints where it is.
    pub(super) async fn stop(self, keep: bool) -> anyhow::Result<()> {
        let Parts { pool, serve, work, .. } = self.parts;
        let served = serve.stop().await;
        let worked = match work {
            Some(work) => work.stop().await,
            None => Ok(()),
        };
        pool.close().await;
        let stopped = self.cluster.stop().await;
        if keep {
            terminal::print(format_args!("Kept: {}", self.dir.keep().display()));
        } else {
            self.dir.close().context("can't remove the demo's directory")?;
        }
        served?;
        worked?;
        Ok(stopped?)
    }
}

impl Parts {
    async fn start(cluster: &Cluster, dir: &Path) -> anyhow::Result<Self> {
        cluster.create_database_if_missing(DATABASE).await?;
        cluster.create_process_role().await?;
        migrate::migrate(&cluster.url(DATABASE), Some(PROCESS_ROLE)).await?;
        let url = SecretUrl::new(cluster.process_url(DATABASE));
        let pool = pool::open(pool::connect_options(&url, PoolUse::Command)?, PoolUse::Command, 2);

        let mailbox = Mailbox::open().await.context("can't open the mail server")?;
        let port = free_port()?;
        let work_port = free_port()?;
        let settings = settings(&url, &mailbox, port, work_port);
        let client = Client::new(format!("http://127.0.0.1:{port}"));
        let mut serve = Process::start("serve", &["serve"], &settings, dir)?;
        let work = Process::start("work", &["work"], &settings, dir)?;
        await_ready(&client, &mut serve).await?;
        Ok(Self { pool, mailbox, settings, client, serve, work: Some(work), work_port })
    }
}

fn settings(url: &SecretUrl, mailbox: &Mailbox, port: u16, work_port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("DATABASE_URL", url.expose().to_owned()),
        ("SMTP_URL", mailbox.url()),
        ("MAIL_FROM", "Sagaline demo <shop@example.com>".into()),
        ("HOST", "127.0.0.1".into()),
        ("PORT", port.to_string()),
        ("WORK_PORT", work_port.to_string()),
        // Everything is private to the run.
        ("AUTH", "off".into()),
        ("LEASE_SECONDS", LEASE_SECONDS.to_string()),
        // A delivery's attempts run out after a second instead of minutes.
        ("RETRY_SEND_MAIL_ATTEMPTS", "3".into()),
        ("RETRY_SEND_MAIL_FIRST_DELAY_MS", "100".into()),
        ("RETRY_SEND_MAIL_FACTOR", "2".into()),
        ("RETRY_SEND_MAIL_MAX_DELAY_MS", "400".into()),
        // The breaker would preserve the attempts of waiting deliveries, which is its purpose; here they have to run
        // out.
        ("BREAKER_SMTP_FAILURES", "1000000".into()),
        ("LOG_FORMAT", "json".into()),
    ]
}

/// Finds a port that is free at the moment.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

async fn await_ready(client: &Client, serve: &mut Process) -> anyhow::Result<()> {
    let started = Instant::now();
    while !client.is_ready().await {
        serve.check()?;
        anyhow::ensure!(
            started.elapsed() < READY_TIMEOUT,
            "the API is not ready after {} s",
            READY_TIMEOUT.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
