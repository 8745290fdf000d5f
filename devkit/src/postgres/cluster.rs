//! A handle on the running server, which several processes may share.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection, Executor, postgres::PgConnection};
use tracing::{info, instrument};

use super::{
    connection::{self, PROCESS_ROLE, ROLE},
    error::EmbeddedError,
    initdb, launch, lock,
    options::Options,
    postmaster::{self, Postmaster},
    server_user::ServerUser,
    socket,
    state_dir::{Layout, StateDir},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server; no other process stops it while this handle lives.
///
/// End it with [`Cluster::stop`]. A dropped handle asks the server to stop if no other process uses it, but can't wait for
/// the end; a killed process leaves a server that the next start adopts.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    socket_dir: PathBuf,
    pid: i32,
    adopted: bool,
    /// This handle's share of `users.lock`; `None` once it is released.
    users: Option<File>,
}

impl Cluster {
    /// The port in the name of the socket; the server listens on no TCP port.
    pub const PORT: u16 = connection::PORT;

    /// Adopts the server that runs in the state directory, else starts one, and makes its data first if there are none.
    ///
    /// Takes about a second the first time, some 50 ms later, and a few when it adopts.
    ///
    /// # Errors
    /// [`EmbeddedError::NotFound`] without binaries; otherwise as the variants say.
    ///
    /// # Cancel safety
    /// A cancelled start may leave a server running, which the next start adopts.
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

    /// Joins the server that runs in the state directory; `None` if none does. It makes nothing there and starts nothing.
    ///
    /// # Errors
    /// As the variants say.
    pub async fn join(state_dir: &StateDir) -> Result<Option<Self>, EmbeddedError> {
        let Some(layout) = Layout::existing(state_dir)? else { return Ok(None) };
        let _starting = lock::exclusive(&layout.start_lock()).await?;
        let users = lock::shared(&layout.users_lock()).await?;
        let Some(Postmaster { pid, socket_dir, .. }) = launch::adopt(&layout).await? else { return Ok(None) };
        Ok(Some(Self { layout, socket_dir, pid, adopted: true, users: Some(users) }))
    }

    /// The URL of a database of this server for its owner, in the form that sqlx and libpq read.
    pub fn url(&self, database: &str) -> String {
        connection::url(&self.socket_dir, database, ROLE)
    }

    /// As [`Cluster::url`], for the role of the processes.
    pub fn process_url(&self, database: &str) -> String {
        connection::url(&self.socket_dir, database, PROCESS_ROLE)
    }

    /// The data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.layout.data()
    }

    /// The folder of the socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The server's process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the server already ran.
    pub fn was_adopted(&self) -> bool {
        self.adopted
    }

    /// The file that the server logs to.
    pub fn log(&self) -> PathBuf {
        self.layout.log()
    }

    /// Creates a database unless it exists; several callers may do so at once.
    ///
    /// # Errors
    /// [`EmbeddedError::Sql`] when the server refuses.
    pub async fn create_database_if_missing(&self, name: &str) -> Result<(), EmbeddedError> {
        let options = connection::options(&self.socket_dir, "postgres");
        let mut connection = connection::connect(&options, CONNECT_TIMEOUT).await?;
        let result = create_database(&mut connection, name).await;
        connection.close().await?;
        Ok(result?)
    }

    /// Creates the role of the processes unless it exists; several callers may do so at once. It has no privileges but to
    /// see what the sessions of others do, as the role of the production file has it.
    ///
    /// # Errors
    /// [`EmbeddedError::Sql`] when the server refuses.
    pub async fn create_process_role(&self) -> Result<(), EmbeddedError> {
        let options = connection::options(&self.socket_dir, "postgres");
        let mut connection = connection::connect(&options, CONNECT_TIMEOUT).await?;
        let result = create_role(&mut connection, None).await;
        connection.close().await?;
        Ok(result?)
    }

    /// Releases the server, and stops it unless another process or handle uses it.
    ///
    /// # Errors
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

    /// Releases the server and leaves it running, for the next start to adopt.
    pub fn detach(mut self) {
        self.users = None;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(users) = self.users.take() else {
            return;
        };
        // A process that holds the lock is starting or stopping the server, and decides whether the server keeps
        // running.
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
    let user = ServerUser::choose(&data)?;
    user.check_access(layout.root())?;
    let Options { search, durability, .. } = options;
    let installation = search.find(needed)?;
    if needed.is_none() {
        remove_empty(&data)?;
        initdb::run(&installation, layout, &user, durability).await?;
    }
    let socket_dir = socket::directory(layout, &user)?;
    launch::launch(&installation, layout, &user, &socket_dir, durability).await
}

/// Removes an empty data directory. A non-empty one is an error, because a rename can't replace it.
fn remove_empty(data: &Path) -> Result<(), EmbeddedError> {
    match fs::remove_dir(data) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(EmbeddedError::io("replace", data)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn create_database(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    create(connection, format!("create database \"{}\"", name.replace('"', "\"\""))).await
}

/// Creates the role of the processes unless it exists, with a password if the server asks for one.
pub(crate) async fn create_role(
    connection: &mut PgConnection,
    password: Option<&str>,
) -> Result<(), sqlx::Error> {
    create(connection, format!("create role {PROCESS_ROLE} login")).await?;
    if let Some(password) = password {
        let quoted = password.replace('\'', "''");
        connection.execute(AssertSqlSafe(format!("alter role {PROCESS_ROLE} password '{quoted}'"))).await?;
    }
    connection.execute(AssertSqlSafe(format!("grant pg_read_all_stats to {PROCESS_ROLE}"))).await?;
    Ok(())
}

/// Creates what may exist, or may be created at this moment by another.
async fn create(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    const DUPLICATE_DATABASE: &str = "42P04";
    const DUPLICATE_OBJECT: &str = "42710";
    const UNIQUE_VIOLATION: &str = "23505";
    match connection.execute(AssertSqlSafe(statement)).await {
        Err(sqlx::Error::Database(error))
            if matches!(
                error.code().as_deref(),
                Some(DUPLICATE_DATABASE | DUPLICATE_OBJECT | UNIQUE_VIOLATION)
            ) =>
        {
            Ok(())
        }
        other => other.map(drop),
    }
}
