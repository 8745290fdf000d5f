//! How clients reach the embedded PostgreSQL.

use std::{io::ErrorKind, path::Path, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgConnection, PgSslMode},
};

/// The database of the embedded PostgreSQL that holds Sagaline's schemas.
pub const DATABASE: &str = "sagaline";

/// The role that owns the server. It has no password, because only the server's user can reach the socket.
pub(super) const ROLE: &str = "sagaline";

/// The role of the processes, which owns nothing; [`Cluster::create_process_role`](super::Cluster::create_process_role)
/// makes it.
pub const PROCESS_ROLE: &str = "shop_process";

/// Part of the socket file's name only: the server listens on no TCP port.
pub(super) const PORT: u16 = 5432;

/// All characters but those that need no escaping anywhere in a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The URL of a database behind a socket, in the form that sqlx and libpq read.
pub(super) fn url(socket_dir: &Path, database: &str, role: &str) -> String {
    let host = socket_dir.to_string_lossy();
    let (host, database) = (utf8_percent_encode(&host, ESCAPED), utf8_percent_encode(database, ESCAPED));
    format!("postgres:///{database}?host={host}&port={PORT}&user={role}&sslmode=disable")
}

/// How to connect to a database behind a socket, unaffected by `PG…` variables.
pub(super) fn options(socket_dir: &Path, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(PORT)
        .username(ROLE)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
}

/// Connects within a time-out, which is reported as an I/O error.
pub(super) async fn connect(
    options: &PgConnectOptions,
    timeout: Duration,
) -> Result<PgConnection, sqlx::Error> {
    match tokio::time::timeout(timeout, options.connect()).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(ErrorKind::TimedOut.into())),
    }
}
