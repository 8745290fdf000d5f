//! The one PostgreSQL server that all tests of all runs share, and the template they clone.
//!
//! It is a throwaway cluster of the embedded default, in a fixed place per user, adopted when it runs
//! already: a run that is killed leaves nothing behind that the next doesn't use or remove.
//! `SAGALINE_TEST_DATABASE_URL` names another server to use instead.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use devkit::postgres::{Cluster, Durability, Options, Search, StateDir};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tokio::sync::OnceCell;

/// The first half of the advisory lock keys that say which runs are alive.
const RUNS: i32 = 0x5a6a;

/// The advisory lock under which the template is made.
const TEMPLATE: i64 = 0x5a6a_0000_0000;

/// Templates of other states of the migrations that are kept, for whoever works on two branches.
const OLD_TEMPLATES: usize = 4;

static SHARED: OnceCell<Server> = OnceCell::const_new();

pub(crate) struct Server {
    place: Place,
    template: String,
    run: i32,
    dropped: SyncSender<String>,
}

enum Place {
    /// Never stopped by us: the next run adopts it.
    Embedded(Cluster),
    Given(Box<PgConnectOptions>),
}

impl Server {
    /// The server of this process, started or adopted at its first use.
    pub(crate) async fn shared() -> &'static Self {
        SHARED.get_or_init(|| async { Self::start().await.expect("the tests' PostgreSQL starts") }).await
    }

    pub(crate) fn url(&self, database: &str) -> String {
        match &self.place {
            Place::Embedded(cluster) => cluster.url(database),
            Place::Given(options) => options.as_ref().clone().database(database).to_url_lossy().to_string(),
        }
    }

    /// Clones the template.
    pub(crate) async fn create(&self, number: u32, synchronous_commit: bool) -> anyhow::Result<String> {
        let name = format!("sagaline_test_{}_{number}", self.run);
        let mut admin = PgConnection::connect(&self.url("postgres")).await?;
        let create = format!("create database {name} template {}", self.template);
        admin.execute(AssertSqlSafe(create)).await?;
        if synchronous_commit {
            let alter = format!("alter database {name} set synchronous_commit = on");
            admin.execute(AssertSqlSafe(alter)).await?;
        }
        admin.close().await?;
        Ok(name)
    }

    /// Has the database dropped in the background; what is left at the end the next run drops.
    pub(crate) fn drop(&self, name: &str) {
        let _ = self.dropped.try_send(name.to_owned());
    }

    async fn start() -> anyhow::Result<Self> {
        let place = match env::var("SAGALINE_TEST_DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            Some(url) => Place::Given(Box::new(PgConnectOptions::from_str(&url)?)),
            None => Place::Embedded(start_cluster().await?),
        };
        let run = rand::random::<i32>() & i32::MAX;
        let (dropped, to_drop) = sync_channel(10_000);
        let mut server = Self { place, template: String::new(), run, dropped };
        server.template = server.ensure_template().await?;
        let (url, template) = (server.url("postgres"), server.template.clone());
        let (lock_is_held, held) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime for the janitor");
            if let Err(error) = runtime.block_on(tidy(&url, run, &template, lock_is_held, &to_drop)) {
                tracing::warn!(%error, "the janitor gave up");
            }
        });
        held.await?;
        Ok(server)
    }

    /// Makes the template under another name first, so that a half-made one is never cloned.
    async fn ensure_template(&self) -> anyhow::Result<String> {
        let name = format!("sagaline_template_{:016x}", hash_of_migrations()?);
        let mut admin = PgConnection::connect(&self.url("postgres")).await?;
        sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE).execute(&mut admin).await?;
        let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(&name)
            .fetch_one(&mut admin)
            .await?;
        if !exists {
            let new = "sagaline_new_template";
            admin.execute(AssertSqlSafe(format!("drop database if exists {new} with (force)"))).await?;
            admin.execute(AssertSqlSafe(format!("create database {new}"))).await?;
            sagaline::migrate(&self.url(new)).await?;
            // A pool's connections may take a moment to go; a rename, unlike a drop, has no force.
            sqlx::query("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1")
                .bind(new)
                .execute(&mut admin)
                .await?;
            admin.execute(AssertSqlSafe(format!("alter database {new} rename to {name}"))).await?;
        }
        // Closing lets go of the lock.
        admin.close().await?;
        Ok(name)
    }
}

async fn start_cluster() -> anyhow::Result<Cluster> {
    let uid = nix::unistd::geteuid();
    let dir = env::temp_dir().join(format!("sagaline-test-{uid}"));
    let mode = if uid.is_root() { 0o711 } else { 0o700 };
    if fs::DirBuilder::new().mode(mode).create(&dir).is_ok() {
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode))?;
    }
    let found = fs::symlink_metadata(&dir)?;
    anyhow::ensure!(found.is_dir() && found.uid() == uid.as_raw(), "{} is not ours", dir.display());
    let options = Options {
        state_dir: StateDir::at(dir),
        durability: Durability::Throwaway,
        search: Search::from_env(),
    };
    Ok(Cluster::start(options).await?)
}

/// Marks the run as alive for as long as its connection lives, and drops databases that nobody needs.
async fn tidy(
    url: &str,
    run: i32,
    template: &str,
    lock_is_held: tokio::sync::oneshot::Sender<()>,
    to_drop: &Receiver<String>,
) -> anyhow::Result<()> {
    let mut admin = PgConnection::connect(url).await?;
    sqlx::query("select pg_advisory_lock($1, $2)").bind(RUNS).bind(run).execute(&mut admin).await?;
    let _ = lock_is_held.send(());
    drop_dead_runs(&mut admin, run).await?;
    drop_old_templates(&mut admin, template).await?;
    while let Ok(name) = to_drop.recv() {
        drop_database(&mut admin, &name).await?;
    }
    Ok(())
}

async fn drop_dead_runs(admin: &mut PgConnection, ours: i32) -> sqlx::Result<()> {
    let names: Vec<String> =
        sqlx::query_scalar("select datname from pg_database where datname like 'sagaline\\_test\\_%'")
            .fetch_all(&mut *admin)
            .await?;
    let run_of = |name: &str| name.split('_').nth(2).and_then(|run| run.parse::<i32>().ok());
    let runs: BTreeSet<i32> =
        names.iter().filter_map(|name| run_of(name)).filter(|run| *run != ours).collect();
    for run in runs {
        let is_dead: bool = sqlx::query_scalar("select pg_try_advisory_lock($1, $2)")
            .bind(RUNS)
            .bind(run)
            .fetch_one(&mut *admin)
            .await?;
        if is_dead {
            for name in names.iter().filter(|name| run_of(name) == Some(run)) {
                drop_database(admin, name).await?;
            }
            sqlx::query("select pg_advisory_unlock($1, $2)")
                .bind(RUNS)
                .bind(run)
                .execute(&mut *admin)
                .await?;
        }
    }
    Ok(())
}

async fn drop_old_templates(admin: &mut PgConnection, ours: &str) -> sqlx::Result<()> {
    let names: Vec<String> = sqlx::query_scalar(
        "select datname from pg_database where datname like 'sagaline\\_template\\_%' and datname <> $1
         order by oid desc",
    )
    .bind(ours)
    .fetch_all(&mut *admin)
    .await?;
    for name in names.iter().skip(OLD_TEMPLATES) {
        drop_database(admin, name).await?;
    }
    Ok(())
}

async fn drop_database(admin: &mut PgConnection, name: &str) -> sqlx::Result<()> {
    admin.execute(AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await?;
    Ok(())
}

/// Changes whenever a migration does, so that a stale template is not used.
fn hash_of_migrations() -> anyhow::Result<u64> {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations"), &mut files)?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
