//! The API key of `sagaline dev`: created once for each database, and stored in a file that only its owner can read.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use shop::{
    audit::AuditActor,
    commands,
    keys::{self, KeyRole, NewKey, Token},
};
use sqlx::PgPool;

/// A key that may do everything, and the file that holds it.
pub(super) struct DevKey {
    pub(super) token: Token,
    pub(super) file: PathBuf,
}

/// Returns the key of this state directory; creates a new one when the database does not have the stored one.
///
/// # Errors
/// When the database does not answer, or the file can't be read or written.
pub(super) async fn dev_key(pool: &PgPool, state_dir: &Path) -> anyhow::Result<DevKey> {
    let file = state_dir.join("dev-key");
    if let Some(token) = stored(&file)?
        && let Some(key) = keys::find(pool, token.key_id()).await?
        && token.fits(&key.secret_hash)
        && key.role == KeyRole::Operate
    {
        return Ok(DevKey { token, file });
    }
    let new = NewKey { name: "dev".into(), role: KeyRole::Operate, life: None };
    let (_, token) =
        commands::create_key(pool, &new, Some("`sagaline dev` needs one"), &AuditActor::from("dev")).await?;
    store(&file, &token).with_context(|| format!("can't write {}", file.display()))?;
    Ok(DevKey { token, file })
}

fn stored(file: &Path) -> anyhow::Result<Option<Token>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Token::parse(text.trim())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("can't read {}", file.display())),
    }
}

/// Writes the key under another name first, so that the file is never incomplete or readable by others.
fn store(file: &Path, token: &Token) -> std::io::Result<()> {
    let new = file.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut written = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    writeln!(written, "{}", token.expose())?;
    written.sync_all()?;
    fs::rename(new, file)
}
