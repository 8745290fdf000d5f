//! A database that is created for one run and dropped afterwards.

use std::fs;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

/// A database for one run; remove it with [`TempDatabase::drop_database`].
#[derive(Debug)]
pub struct TempDatabase {
    server: PgConnectOptions,
    name: String,
    server_pid: Option<u32>,
}

impl TempDatabase {
    /// Creates a database whose name begins with `prefix`. `server` is how to connect to another database of the server.
    ///
    /// # Errors
    /// When the server can't be reached or refuses.
    pub async fn create(server: PgConnectOptions, prefix: &str) -> Result<Self, sqlx::Error> {
        let name = format!("{prefix}_{}", Uuid::now_v7().simple());
        let mut connection = PgConnection::connect_with(&server).await?;
        connection.execute(AssertSqlSafe(format!("create database {name}"))).await?;
        let server_pid = postmaster(&mut connection).await?;
        connection.close().await?;
        Ok(Self { server, name, server_pid })
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id of the server, if it runs on this machine.
    pub fn server_pid(&self) -> Option<u32> {
        self.server_pid
    }

    /// Connects to the other database, so that the statistics of this one are not affected.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn admin(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.server).await
    }

    /// Drops the database, even while clients are connected to it.
    ///
    /// # Errors
    /// When the server can't be reached or refuses.
    pub async fn drop_database(self) -> Result<(), sqlx::Error> {
        let mut connection = self.admin().await?;
        connection.execute(AssertSqlSafe(format!("drop database {} with (force)", self.name))).await?;
        connection.close().await
    }
}

/// The server is the parent of the process that serves a connection, if both run on this machine. The same id may belong to
/// another process here, so the names of both are checked.
async fn postmaster(connection: &mut PgConnection) -> Result<Option<u32>, sqlx::Error> {
    let own: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await?;
    let is_postgres = |pid: &str| {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim_end().starts_with("postgres"))
    };
    let parent = || {
        let stat = fs::read_to_string(format!("/proc/{own}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().nth(1).map(ToOwned::to_owned)
    };
    Ok(parent()
        .filter(|parent| is_postgres(&own.to_string()) && is_postgres(parent))
        .and_then(|pid| pid.parse().ok()))
}
