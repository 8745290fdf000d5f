//! One private PostgreSQL cluster and this process' share in it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tracing::{info, instrument};

use super::owner::Owner;
use super::postmaster::{self, Postmaster};
use super::state_dir::Layout;
use super::{EmbeddedError, PORT, ROLE, Search, StateDir, initdb, launch, lock, socket};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What survives a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Every commit: `fsync`, `synchronous_commit` and `full_page_writes` are on.
    Durable,
    /// Nothing, for tests: all three are off. What was committed survives the end of processes only.
    Throwaway,
}

/// How to run the cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the cluster is kept.
    pub state_dir: StateDir,
    /// What its commits are worth. A server that is adopted keeps what it was started with.
    pub durability: Durability,
    /// Where the binaries may be; not asked when the server runs already.
    pub search: Search,
}

impl Options {
    /// Returns the defaults of `sagaline dev`: durable, and what the environment says.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::NoStateDir`] as [`StateDir::from_env`].
    pub fn from_env() -> Result<Self, EmbeddedError> {
        let state_dir = StateDir::from_env()?;
        Ok(Self { state_dir, durability: Durability::Durable, search: Search::from_env() })
    }
}

/// A running cluster; as long as a process has one, no other stops the server.
///
/// End it with [`Cluster::stop`]. A dropped one asks the server to stop, when nobody else uses it, but
/// can't wait for it; a killed process leaves a server that the next start adopts.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    socket_dir: PathBuf,
    pid: i32,
    adopted: bool,
    /// Our share of `users.lock`; gone once we have let go.
    users: Option<File>,
}

impl Cluster {
    /// Adopts the server that runs in the state directory, else starts one, making the data if needed.
    ///
    /// Takes about a second the first time, some 50 ms later, a few when adopting.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::NotFound`] without binaries; otherwise as the variants say.
    ///
    /// # Cancel safety
    ///
    /// Cancelled, it may leave a server running that the next start adopts.
    #[instrument(skip_all, err, fields(state_dir = %options.state_dir.path().display()))]
    pub async fn start(options: Options) -> Result<Self, EmbeddedError> {
        let layout = Layout::make(&options.state_dir)?;
        let _starting = lock::exclusive(&layout.start_lock()).await?;
        let users = lock::shared(&layout.users_lock()).await?;
        let (server, adopted) = match launch::adopt(&layout).await? {
            Some(server) => (server, true),
            None => (start_server(&layout, options).await?, false),
        };
        info!(server.pid = server.pid, adopted, "the embedded PostgreSQL is ready");
        let Postmaster { pid, socket_dir, .. } = server;
        Ok(Self { layout, socket_dir, pid, adopted, users: Some(users) })
    }

    /// Returns the URL of a database of this cluster, in the form that sqlx and libpq read.
    pub fn url(&self, database: &str) -> String {
        let host = percent_encode(&self.socket_dir.to_string_lossy());
        let database = percent_encode(database);
        format!("postgres:///{database}?host={host}&port={PORT}&user={ROLE}&sslmode=disable")
    }

    /// Returns the server's process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Says whether the server ran already.
    pub fn was_adopted(&self) -> bool {
        self.adopted
    }

    /// Returns the file that the server logs to.
    pub fn log(&self) -> PathBuf {
        self.layout.log()
    }

    /// Creates a database unless it exists; several callers may do so at once.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Sql`] when the server refuses.
    pub async fn create_database_if_missing(&self, name: &str) -> Result<(), EmbeddedError> {
        let mut connection =
            launch::connect(&launch::options(&self.socket_dir, "postgres"), CONNECT_TIMEOUT).await?;
        let result = create_database(&mut connection, name).await;
        connection.close().await?;
        Ok(result?)
    }

    /// Lets go of the cluster, and stops the server unless another process or handle uses it.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::WontStop`] when not even an immediate shutdown ends the server.
    #[instrument(skip_all, err)]
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        let Some(users) = self.users.take() else {
            return Ok(());
        };
        let _stopping = lock::exclusive(&self.layout.start_lock()).await?;
        if lock::is_last(&users).map_err(EmbeddedError::io("lock", &self.layout.users_lock()))? {
            postmaster::shut_down(&self.layout.data()).await?;
            info!("the embedded PostgreSQL is stopped");
        }
        Ok(())
    }

    /// Lets go of the cluster and leaves the server running, for the next start to adopt.
    pub fn leave(mut self) {
        self.users = None;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(users) = self.users.take() else {
            return;
        };
        // Whoever holds the lock is starting or stopping the server and decides what becomes of it.
        let Ok(starting) = lock::open(&self.layout.start_lock()) else {
            return;
        };
        if lock::is_free(&starting).unwrap_or(false) && lock::is_last(&users).unwrap_or(false) {
            let data = self.layout.data();
            if let Ok(Some(server)) = Postmaster::read(&data)
                && server.is_alive(&data)
            {
                postmaster::interrupt(server.pid);
            }
        }
    }
}

async fn start_server(layout: &Layout, options: Options) -> Result<Postmaster, EmbeddedError> {
    let data = layout.data();
    let needed = initdb::major_of(&data)?;
    let owner = Owner::choose(&data)?;
    owner.check_way_to(layout.root())?;
    let Options { search, durability, .. } = options;
    let installation = search.find(needed)?;
    if needed.is_none() {
        remove_stray(&data)?;
        initdb::run(&installation, layout, &owner, durability).await?;
    }
    let socket_dir = socket::directory(layout, &owner)?;
    launch::launch(&installation, layout, &owner, &socket_dir, durability).await
}

/// Removes an empty data folder, which a rename can't replace when it isn't; anything in it is an error.
fn remove_stray(data: &Path) -> Result<(), EmbeddedError> {
    match std::fs::remove_dir(data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(EmbeddedError::io("replace", data)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn create_database(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    const DUPLICATE_DATABASE: &str = "42P04";
    const UNIQUE_VIOLATION: &str = "23505";
    let statement = format!("create database \"{}\"", name.replace('"', "\"\""));
    match connection.execute(AssertSqlSafe(statement)).await {
        Err(sqlx::Error::Database(error))
            if matches!(error.code().as_deref(), Some(DUPLICATE_DATABASE | UNIQUE_VIOLATION)) =>
        {
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Escapes all but the characters that mean themselves everywhere in a URL.
fn percent_encode(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(byte.into());
            }
            // Writing to a String can't fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}
