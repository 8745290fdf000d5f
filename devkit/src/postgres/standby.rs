//! A standby of an embedded PostgreSQL, for tests of a failover.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    process::Stdio,
};

use tokio::process::Command;

use super::{
    cluster::Cluster,
    connection::{PORT, ROLE},
    error::EmbeddedError,
    initdb,
    options::Options,
    server_user::ServerUser,
    state_dir::Layout,
};

impl Cluster {
    /// Copies this server, which has to be a durable one, into an empty state directory, and starts the copy as a standby
    /// that follows it.
    ///
    /// # Errors
    /// [`EmbeddedError::Copy`] when `pg_basebackup` fails, otherwise as [`Cluster::start`].
    pub async fn start_standby(&self, options: Options) -> Result<Self, EmbeddedError> {
        let layout = Layout::make(&options.state_dir)?;
        let (here, new, data) = (self.data(), layout.new_data(), layout.data());
        let user = ServerUser::choose(&here)?;
        let program = options.search.find(initdb::major_of(&here)?)?.program("pg_basebackup");
        DirBuilder::new().mode(0o700).create(&new).map_err(EmbeddedError::io("make", &new))?;
        user.own(&new)?;
        let mut command = Command::from(user.command(&program));
        command
            .args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"])
            .args(["--no-password", "--username", ROLE, "--port", &PORT.to_string()])
            .arg("--host")
            .arg(self.socket_dir())
            .arg("--pgdata")
            .arg(&new)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let copied = command.output().await.map_err(EmbeddedError::io("run", &program))?;
        if !copied.status.success() {
            let output = String::from_utf8_lossy(&copied.stderr).trim().to_owned();
            return Err(EmbeddedError::Copy { output });
        }
        fs::rename(&new, &data).map_err(EmbeddedError::io("make", &data))?;
        Self::start(options).await
    }
}
