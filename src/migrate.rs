//! The migrations of the schemas `engine` and `shop`: applied by `migrate` and `dev`, checked by every other command.

use std::path::PathBuf;

use anyhow::Context;
use engine::Migrations;
use sqlx::PgPool;

use crate::{
    config::{DatabaseConfig, RetentionConfig, SecretUrl},
    database,
    exit_error::ExitError,
    pool::{self, PoolUse},
};

/// The context of an error of a statement that checks the database.
const UNREADABLE: &str = "can't find out whether the database can be used";

/// What to do about a role that lacks privileges.
const TO_MIGRATE: &str = "its role may not migrate it; run `migrate` as the owner, or grant the role";
const TO_WORK: &str =
    "its role may not work with it; run `sagaline migrate --grant-to …` as the owner, or grant the role";

/// A schema, and the migrations that this binary has for it.
struct Schema {
    name: &'static str,
    migrations: Migrations,
}

fn schemas() -> [Schema; 2] {
    [
        Schema { name: "engine", migrations: engine::migrations() },
        Schema { name: "shop", migrations: shop::migrations() },
    ]
}

/// A migration that was applied to a database.
struct Applied {
    version: i64,
    checksum: Vec<u8>,
}

/// Which database is used, which decides the advice on replacing an unusable one.
pub(crate) enum DatabaseLocation {
    /// The one that `dev` keeps in this folder.
    StateDir(PathBuf),
    /// One that a URL names.
    Url,
}

impl DatabaseLocation {
    fn how_to_move_aside(&self) -> String {
        match self {
            Self::StateDir(dir) => format!(
                "`sagaline dev --reset` deletes it; to keep it, move {} elsewhere while nothing runs, and start `sagaline \
                 dev` again",
                dir.display()
            ),
            Self::Url => {
                "drop it, or rename it to keep it (`alter database … rename to …`); then create an empty \
                          database and run `sagaline migrate`"
                    .into()
            }
        }
    }
}

/// Creates the schemas `engine` and `shop` or brings them up to date; several processes may do so at once.
///
/// # Errors
/// [`ExitError::Unusable`] when the database can't hold the schemas, the role lacks privileges, or it has other migrations
/// than this binary's; another error when it is unreachable or was migrated by a newer version.
pub(crate) async fn run(pool: &PgPool, location: &DatabaseLocation) -> Result<(), ExitError> {
    for schema in &schemas() {
        refuse_unsuitable(schema, pool).await?;
        refuse_lacks(&schema.migrations.lacking_to_migrate(pool).await.context(UNREADABLE)?, TO_MIGRATE)?;
        let applied = applied(pool, schema.migrations.applied_table()).await?;
        refuse_other_migrations(schema, &applied, location)?;
        refuse_newer(schema, pool).await?;
    }
    if engine::is_read_only(pool).await.context(UNREADABLE)? {
        return Err(ExitError::Unusable(
            "the database can't be migrated: it is read-only. Connect to the primary, or set \
             `default_transaction_read_only` off"
                .into(),
        ));
    }
    engine::migrate(pool).await.context("the engine's schema can't be migrated")?;
    Ok(shop::migrate(pool).await.context("the shop's schema can't be migrated")?)
}

/// As [`run`], then stores how long audits are kept, and grants what a process needs to the role of the processes, if they
/// have one that does not own the schemas.
///
/// # Errors
/// Those of [`run`] and [`grant`], and when the time can't be stored.
pub(crate) async fn provision(
    pool: &PgPool,
    location: &DatabaseLocation,
    retention: &RetentionConfig,
    grant_to: Option<&str>,
) -> Result<(), ExitError> {
    run(pool, location).await?;
    engine::set_audit_retention(pool, retention.audits()).await.context("AUDIT_KEEP can't be stored")?;
    grant(pool, grant_to).await
}

/// Grants a role what a process needs on both schemas, and takes everything else on their tables from it; does nothing if the
/// processes have no role of their own.
///
/// # Errors
/// [`ExitError::Unusable`] for a role that owns the tables, from which nothing can be kept.
async fn grant(pool: &PgPool, role: Option<&str>) -> Result<(), ExitError> {
    let Some(role) = role else { return Ok(()) };
    let failed = || format!("the role {role} can't be granted what a process needs");
    for schema in &schemas() {
        if schema.migrations.owns(pool, role).await.with_context(failed)? {
            return Err(ExitError::Unusable(format!(
                "{role} owns the tables of the schema `{}`; name another role, under which the processes run",
                schema.name
            )));
        }
        schema.migrations.grant(pool, role).await.with_context(failed)?;
    }
    Ok(())
}

/// Migrates the database that a URL names, and grants a role what a process needs, as `sagaline migrate --grant-to` does.
///
/// # Errors
/// As for a migration of the same database by `sagaline migrate`.
pub async fn migrate(url: &str, grant_to: Option<&str>) -> anyhow::Result<()> {
    let url = SecretUrl::new(url);
    let migrated = with_pool(&url, async |pool| {
        run(pool, &DatabaseLocation::Url).await?;
        grant(pool, grant_to).await
    });
    Ok(migrated.await?)
}

/// As [`provision`], for the database that a URL names.
///
/// # Errors
/// Those of [`provision`].
pub(crate) async fn provision_url(
    url: &SecretUrl,
    location: &DatabaseLocation,
    retention: &RetentionConfig,
    grant_to: Option<&str>,
) -> Result<(), ExitError> {
    with_pool(url, async |pool| provision(pool, location, retention, grant_to).await).await
}

/// Does something with a pool that is closed afterwards.
async fn with_pool(
    url: &SecretUrl,
    doing: impl AsyncFnOnce(&PgPool) -> Result<(), ExitError>,
) -> Result<(), ExitError> {
    let options = pool::connect_options(url, PoolUse::Command).context("the database's URL can't be used")?;
    let pool = pool::open(options, PoolUse::Command, 2);
    let done = doing(&pool).await;
    pool.close().await;
    done
}

/// Builds the small pool of a command that needs a migrated database.
///
/// # Errors
/// As [`database::connect`] and [`require`].
pub(crate) async fn connect_migrated(config: &DatabaseConfig, url: &SecretUrl) -> Result<PgPool, ExitError> {
    let pool = database::connect(url, PoolUse::Command, 2, config.startup_wait).await?;
    require(&pool).await?;
    Ok(pool)
}

/// Checks that the database can hold the schemas and has every migration that this binary needs, that it admits this
/// binary, and that the role may work with its tables.
///
/// # Errors
/// [`ExitError::Unusable`], with what to do, when it does not.
pub(crate) async fn require(pool: &PgPool) -> Result<(), ExitError> {
    for schema in &schemas() {
        refuse_unsuitable(schema, pool).await?;
        refuse_lacks(&schema.migrations.lacking_to_work(pool).await.context(UNREADABLE)?, TO_WORK)?;
        let applied = applied(pool, schema.migrations.applied_table()).await?;
        refuse_other_migrations(schema, &applied, &DatabaseLocation::Url)?;
        refuse_newer(schema, pool).await?;
        let is_missing = |version| !applied.iter().any(|applied| applied.version == version);
        let missing =
            schema.migrations.all().iter().filter(|migration| is_missing(migration.version)).count();
        if missing > 0 {
            return Err(ExitError::Unusable(format!(
                "the database is not up to date: {missing} of {} migrations of the schema `{}` are missing; run \
                 `sagaline migrate`",
                schema.migrations.all().len(),
                schema.name
            )));
        }
    }
    Ok(())
}

/// Refuses a database that can't hold what callers send.
async fn refuse_unsuitable(schema: &Schema, pool: &PgPool) -> Result<(), ExitError> {
    let lack = schema.migrations.unsuitable(pool).await.context(UNREADABLE)?;
    lack.map_or(Ok(()), |lack| Err(ExitError::Unusable(format!("the database can't be used: {lack}"))))
}

/// Refuses to go on with a role that lacks privileges. A few of them say enough.
fn refuse_lacks(lacking: &[String], advice: &str) -> Result<(), ExitError> {
    let Some(shown) = lacking.chunks(5).next() else { return Ok(()) };
    let more = lacking.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(ExitError::Unusable(format!("the database can't be used: {advice}: {}{more}", shown.join(", "))))
}

/// Refuses a schema that a newer version has changed so that this one can't work with it.
async fn refuse_newer(schema: &Schema, pool: &PgPool) -> Result<(), ExitError> {
    let admission = schema.migrations.admission(pool).await.context(UNREADABLE)?;
    if admission.is_admitted() {
        return Ok(());
    }
    Err(ExitError::Unusable(format!(
        "the database can't be used by this version: a newer one has migrated its schema `{}`, which admits processes that \
         know migration {}, and this one knows up to {}; run the newer version, or restore a backup from \
         before it",
        schema.name, admission.oldest, admission.newest_known
    )))
}

/// Refuses a database whose schema was created by other migrations than this binary's. Migrations that are newer than
/// all of this binary's are accepted, because it runs beside a newer version during an upgrade.
fn refuse_other_migrations(
    schema: &Schema,
    applied: &[Applied],
    location: &DatabaseLocation,
) -> Result<(), ExitError> {
    let known = |version| schema.migrations.all().iter().find(|migration| migration.version == version);
    let newest = schema.migrations.all().iter().map(|migration| migration.version).max();
    let is_other = |applied: &Applied| match known(applied.version) {
        Some(known) => *known.checksum != *applied.checksum,
        None => Some(applied.version) < newest,
    };
    if !applied.iter().any(is_other) {
        return Ok(());
    }
    Err(ExitError::Unusable(format!(
        "the database can't be used by this version: its schema `{}` was created by a development version from before \
         the first release, whose migrations were replaced; {}",
        schema.name,
        location.how_to_move_aside()
    )))
}

/// Reads the applied migrations from their table; none when there is no such table.
async fn applied(pool: &PgPool, list: &str) -> anyhow::Result<Vec<Applied>> {
    let exists: bool =
        sqlx::query_scalar("select to_regclass($1) is not null").bind(list).fetch_one(pool).await?;
    if !exists {
        return Ok(Vec::new());
    }
    let statement = sqlx::AssertSqlSafe(format!("select version, checksum from {list} where success"));
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as(statement).fetch_all(pool).await.with_context(|| format!("can't read {list}"))?;
    Ok(rows.into_iter().map(|(version, checksum)| Applied { version, checksum }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_dev_is_moved_aside_with_its_folder() {
        let schema = &schemas()[0];
        let applied = |version, checksum: &[u8]| Applied { version, checksum: checksum.to_vec() };
        let first = schema.migrations.all().iter().next().unwrap();
        let location = DatabaseLocation::StateDir("/var/lib/sagaline".into());
        let refusal = |applied| refuse_other_migrations(schema, &[applied], &location).err();
        assert!(refusal(applied(first.version, &first.checksum)).is_none());
        assert!(refusal(applied(i64::MAX, &[1])).is_none(), "a newer version's");
        let message = refusal(applied(first.version, &[1])).unwrap().to_string();
        assert!(message.contains("`sagaline dev --reset` deletes it"), "{message}");
        assert!(message.contains("move /var/lib/sagaline elsewhere"), "{message}");
    }
}
