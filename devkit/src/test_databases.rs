//! A database for every test: cloned from a migrated template, on one PostgreSQL that all test runs of a user share.
//!
//! The server is an embedded one with throwaway durability, in a fixed folder for each user. A run adopts it when it
//! already runs, so a killed run leaves nothing behind that the next one does not use or remove.
//! `SAGALINE_TEST_DATABASE_URL` names another server to use instead; its role has to be a superuser.
//!
//! A test's processes work under the role [`PROCESS_ROLE`], which owns nothing, so a privilege that they lack is noticed.
//! What a test arranges as the owner, it does with [`TestDatabase::owner_url`].

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::PathBuf,
    str::FromStr,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use percent_encoding::percent_decode_str;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor,
    postgres::{PgConnectOptions, PgConnection},
};
use tokio::sync::oneshot;

use crate::postgres::{
    Cluster, Durability, EmbeddedError, Options, PROCESS_ROLE, Search, StateDir, create_role,
};

/// The first half of the advisory lock keys that mark living runs.
const RUNS: i32 = 0x5a6a;

/// The advisory lock under which a template is made.
const TEMPLATE: i64 = 0x5a6a_0000_0000;

/// Templates of other programs that are kept, for work on several branches.
const MAX_OLD_TEMPLATES: usize = 8;

/// Why a test can't get a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestDatabaseError {
    /// The embedded PostgreSQL can't be used.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),

    /// The server refused a statement or a connection.
    #[error("the tests' PostgreSQL failed")]
    Sql(#[from] sqlx::Error),

    /// A file of the server or of the tests can't be used.
    #[error("can't use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },

    /// The folder for the server belongs to another user.
    #[error("{} belongs to another user", .0.display())]
    NotOurs(PathBuf),

    /// The template can't be migrated.
    #[error("the template can't be migrated")]
    Migrate(#[source] Box<dyn Error + Send + Sync>),

    /// The thread that drops databases could not be started.
    #[error("the thread that drops databases ended")]
    Janitor,
}

/// The tests' server with a migrated template.
#[derive(Debug)]
pub struct TestDatabases {
    server: Server,
    template: String,
    run: i32,
    created: AtomicU32,
    dropped: SyncSender<String>,
}

#[derive(Debug)]
enum Server {
    /// A run never stops it, so the next run adopts it.
    Embedded(Cluster),
    Given(Box<PgConnectOptions>),
}

/// A migrated database that one test has to itself; it is dropped with this handle.
#[derive(Debug)]
pub struct TestDatabase {
    databases: &'static TestDatabases,
    name: String,
}

impl TestDatabases {
    /// Starts or adopts the server, and makes the template unless this program has made it before. `migrate` gets the
    /// URL of an empty database for its owner, and the name of the role to which it has to grant what a process needs.
    /// That role may also make tables of its own in the schema `public`.
    ///
    /// # Errors
    /// When the server does not start, or the template can't be made.
    pub async fn start<E: Into<Box<dyn Error + Send + Sync>>>(
        migrate: impl AsyncFnOnce(&str, &str) -> Result<(), E>,
    ) -> Result<Self, TestDatabaseError> {
        let server = match env::var("SAGALINE_TEST_DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            Some(url) => Server::Given(Box::new(PgConnectOptions::from_str(&url)?)),
            None => Server::Embedded(start_cluster().await?),
        };
        let run = rand::random::<i32>() & i32::MAX;
        let template = format!("sagaline_template_{:016x}", fingerprint()?);
        ensure_template(&server, &template, migrate).await?;
        let (dropped, to_drop) = sync_channel(10_000);
        let (url, newest) = (server.url("postgres"), template.clone());
        let (lock_is_held, held) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let cleaned = runtime
                .map_err(sqlx::Error::Io)
                .and_then(|runtime| runtime.block_on(clean_up(&url, run, &newest, lock_is_held, &to_drop)));
            if let Err(error) = cleaned {
                tracing::warn!(%error, "databases of tests are no longer dropped");
            }
        });
        held.await.map_err(|_| TestDatabaseError::Janitor)?;
        Ok(Self { server, template, run, created: AtomicU32::new(0), dropped })
    }

    /// The URL of one of these databases for its owner.
    pub fn owner_url_of(&self, database: &str) -> String {
        self.server.url(database)
    }

    /// Clones the template, in some 50 ms. A durable database commits to disk before it answers, as in production, for
    /// tests that kill processes. (`fsync` is the server's setting and stays off: it matters when a machine crashes,
    /// not when a process does.)
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create(&'static self, durability: Durability) -> Result<TestDatabase, TestDatabaseError> {
        let number = self.created.fetch_add(1, Ordering::Relaxed);
        let name = format!("sagaline_test_{}_{number}", self.run);
        let mut admin = PgConnection::connect(&self.server.url("postgres")).await?;
        let create = format!("create database {name} template {}", self.template);
        admin.execute(AssertSqlSafe(create)).await?;
        match durability {
            Durability::Throwaway => {}
            Durability::Durable => {
                let alter = format!("alter database {name} set synchronous_commit = on");
                admin.execute(AssertSqlSafe(alter)).await?;
            }
        }
        admin.close().await?;
        Ok(TestDatabase { databases: self, name })
    }
}

impl TestDatabase {
    /// The URL of the database for a process.
    pub fn url(&self) -> String {
        self.databases.server.process_url(&self.name)
    }

    /// The URL of the database for its owner.
    pub fn owner_url(&self) -> String {
        self.databases.owner_url_of(&self.name)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // Dropped in the background; the next run drops those that are left.
        let _ = self.databases.dropped.try_send(std::mem::take(&mut self.name));
    }
}

impl Server {
    fn url(&self, database: &str) -> String {
        match self {
            Self::Embedded(cluster) => cluster.url(database),
            Self::Given(options) => options.as_ref().clone().database(database).to_url_lossy().to_string(),
        }
    }

    fn process_url(&self, database: &str) -> String {
        match self {
            Self::Embedded(cluster) => cluster.process_url(database),
            Self::Given(options) => {
                let options = options.as_ref().clone().database(database).username(PROCESS_ROLE);
                options.to_url_lossy().to_string()
            }
        }
    }

    /// The password of the given server's role, which the role of the processes gets, too.
    fn password(&self) -> Option<String> {
        match self {
            Self::Embedded(_) => None,
            Self::Given(options) => {
                let url = options.to_url_lossy();
                url.password().map(|password| percent_decode_str(password).decode_utf8_lossy().into_owned())
            }
        }
    }
}

/// Makes the template under another name first, so that an incomplete one is never cloned.
async fn ensure_template<E: Into<Box<dyn Error + Send + Sync>>>(
    server: &Server,
    name: &str,
    migrate: impl AsyncFnOnce(&str, &str) -> Result<(), E>,
) -> Result<(), TestDatabaseError> {
    let mut admin = PgConnection::connect(&server.url("postgres")).await?;
    sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE).execute(&mut admin).await?;
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(name)
        .fetch_one(&mut admin)
        .await?;
    if !exists {
        let new = "new_template";
        admin.execute(AssertSqlSafe(format!("drop database if exists {new} with (force)"))).await?;
        admin.execute(AssertSqlSafe(format!("create database {new}"))).await?;
        create_role(&mut admin, server.password().as_deref()).await?;
        let url = server.url(new);
        migrate(&url, PROCESS_ROLE).await.map_err(|error| TestDatabaseError::Migrate(error.into()))?;
        let mut owner = PgConnection::connect(&url).await?;
        owner.execute(AssertSqlSafe(format!("grant create on schema public to {PROCESS_ROLE}"))).await?;
        owner.close().await?;
        // A pool's connections may take a moment to close; a rename, unlike a drop, has no force.
        sqlx::query("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1")
            .bind(new)
            .execute(&mut admin)
            .await?;
        admin.execute(AssertSqlSafe(format!("alter database {new} rename to {name}"))).await?;
    }
    // Closing releases the lock.
    admin.close().await?;
    Ok(())
}

async fn start_cluster() -> Result<Cluster, TestDatabaseError> {
    let uid = nix::unistd::geteuid();
    let dir = env::temp_dir().join(format!("sagaline-test-{uid}"));
    let io = |source| TestDatabaseError::Io { path: dir.clone(), source };
    let mode = if uid.is_root() { 0o711 } else { 0o700 };
    if fs::DirBuilder::new().mode(mode).create(&dir).is_ok() {
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).map_err(io)?;
    }
    let found = fs::symlink_metadata(&dir).map_err(io)?;
    if !found.is_dir() || found.uid() != uid.as_raw() {
        return Err(TestDatabaseError::NotOurs(dir));
    }
    let options = Options {
        state_dir: StateDir::at(dir),
        durability: Durability::Throwaway,
        search: Search::from_env(),
    };
    Ok(Cluster::start(options).await?)
}

/// Marks the run as alive for as long as its connection lives, and drops databases that are no longer used.
async fn clean_up(
    url: &str,
    run: i32,
    template: &str,
    lock_is_held: oneshot::Sender<()>,
    to_drop: &Receiver<String>,
) -> sqlx::Result<()> {
    let mut admin = PgConnection::connect(url).await?;
    sqlx::query("select pg_advisory_lock($1, $2)").bind(RUNS).bind(run).execute(&mut admin).await?;
    // It fails only when the run has already ended.
    let _ = lock_is_held.send(());
    drop_dead_runs(&mut admin, run).await?;
    drop_old_templates(&mut admin, template).await?;
    while let Ok(name) = to_drop.recv() {
        drop_database(&mut admin, &name).await?;
    }
    Ok(())
}

async fn drop_dead_runs(admin: &mut PgConnection, own: i32) -> sqlx::Result<()> {
    let names: Vec<String> =
        sqlx::query_scalar("select datname from pg_database where datname like 'sagaline\\_test\\_%'")
            .fetch_all(&mut *admin)
            .await?;
    let run_of = |name: &str| name.split('_').nth(2).and_then(|run| run.parse::<i32>().ok());
    let runs: BTreeSet<i32> =
        names.iter().filter_map(|name| run_of(name)).filter(|run| *run != own).collect();
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

async fn drop_old_templates(admin: &mut PgConnection, own: &str) -> sqlx::Result<()> {
    let names: Vec<String> = sqlx::query_scalar(
        "select datname from pg_database where datname like 'sagaline\\_template\\_%' and datname <> $1
         order by oid desc",
    )
    .bind(own)
    .fetch_all(&mut *admin)
    .await?;
    for name in names.iter().skip(MAX_OLD_TEMPLATES) {
        drop_database(admin, name).await?;
    }
    Ok(())
}

async fn drop_database(admin: &mut PgConnection, name: &str) -> sqlx::Result<()> {
    admin.execute(AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await?;
    Ok(())
}

/// Identifies the build of this program, which has the migrations compiled in. The files of migrations would be the
/// wrong key: a program older than they are would fill their template with an older schema.
fn fingerprint() -> Result<u64, TestDatabaseError> {
    let program =
        env::current_exe().map_err(|source| TestDatabaseError::Io { path: "the program".into(), source })?;
    let io = |source| TestDatabaseError::Io { path: program.clone(), source };
    let metadata = fs::metadata(&program).map_err(io)?;
    let mut hasher = DefaultHasher::new();
    (&program, metadata.len(), metadata.modified().map_err(io)?).hash(&mut hasher);
    Ok(hasher.finish())
}
