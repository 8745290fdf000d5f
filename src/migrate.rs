//! The migrations of both schemas: `migrate` and `dev` apply them, all other commands only check that they are applied.

use anyhow::Context;
use sqlx::{PgPool, migrate::Migrator};

use crate::{
    config::{DatabaseConfig, SecretUrl},
    database,
    exit_error::ExitError,
    pool::{self, PoolUse},
};

/// The migrations that this binary knows, to compare with those of the database; the crates apply them.
static ENGINE: Migrator = sqlx_macros::migrate!("migrations/engine");
static SHOP: Migrator = sqlx_macros::migrate!("migrations/shop");

/// Creates both schemas or brings them up to date; several processes may do so at once.
///
/// # Errors
/// When the database does not answer, or was migrated by a newer or a modified version.
pub(crate) async fn run(pool: &PgPool) -> anyhow::Result<()> {
    engine::migrate(pool).await.context("the engine's schema can't be migrated")?;
    shop::migrate(pool).await.context("the shop's schema can't be migrated")
}

/// Migrates the database that a URL names.
///
/// # Errors
/// As `sagaline migrate`.
pub async fn migrate(url: &str) -> anyhow::Result<()> {
    let options = pool::connect_options(&SecretUrl::new(url), PoolUse::Command)?;
    let pool = pool::open(options, PoolUse::Command, 2);
    let migrated = run(&pool).await;
    pool.close().await;
    migrated
}

/// Makes the small pool of a command that needs a migrated database.
///
/// # Errors
/// As [`database::connect`] and [`require`].
pub(crate) async fn connect_migrated(config: &DatabaseConfig, url: &SecretUrl) -> Result<PgPool, ExitError> {
    let pool = database::connect(url, PoolUse::Command, 2, config.startup_wait).await?;
    require(&pool).await?;
    Ok(pool)
}

/// Checks that the database has all migrations that this binary knows.
///
/// # Errors
/// [`ExitError::Unusable`], with the command to run, when some are missing.
pub(crate) async fn require(pool: &PgPool) -> Result<(), ExitError> {
    let applied = [
        ("engine", &ENGINE, applied(pool, "engine._sqlx_migrations").await?),
        ("shop", &SHOP, applied(pool, "shop.migration").await?),
    ];
    for (schema, known, applied) in applied {
        let missing = known.iter().filter(|migration| !applied.contains(&migration.version)).count();
        if missing > 0 {
            return Err(ExitError::Unusable(format!(
                "the database is not up to date: {missing} of {} migrations of the schema `{schema}` are missing; run \
                 `sagaline migrate`",
                known.iter().count()
            )));
        }
    }
    Ok(())
}

/// The versions that a table of migrations holds; none when the table does not exist.
async fn applied(pool: &PgPool, table: &'static str) -> anyhow::Result<Vec<i64>> {
    let exists: bool =
        sqlx::query_scalar("select to_regclass($1) is not null").bind(table).fetch_one(pool).await?;
    if !exists {
        return Ok(Vec::new());
    }
    let statement = sqlx::AssertSqlSafe(format!("select version from {table} where success"));
    sqlx::query_scalar(statement).fetch_all(pool).await.with_context(|| format!("can't read {table}"))
}
