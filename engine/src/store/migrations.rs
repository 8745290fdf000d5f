//! Brings a schema up to date: one process at a time, with indexes that are built beside the writes of running
//! processes.
//!
//! sqlx applies the migrations; this module adds what it lacks for a database that is in use:
//! - Migrators wait for their lock by polling (`lock.rs`).
//! - A migration that begins with `-- no-transaction` builds or drops one index concurrently (`index_change.rs`). If an
//!   earlier try left the index invalid, it is dropped first, so such a migration can be run again after any failure.

mod error;
mod index_change;
mod lock;
mod privileges;
mod requirements;

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool,
    migrate::{AppliedMigration, Migrate, MigrateError, Migration, Migrator},
    postgres::PgConnectOptions,
};

use crate::model::error_chain::ErrorChain;
pub use error::MigrationError;
use index_change::IndexChange;
pub use privileges::TablePrivileges;
pub use requirements::Unsuitable;

/// How long a migrator waits for another one, unless it is told otherwise. An index of a large table takes minutes.
const MAX_LOCK_WAIT: Duration = Duration::from_hours(1);

/// The migrations of one schema, and the table in that schema that lists the applied ones.
///
/// Each schema has a list of its own, because two migrators that share a list refuse each other's entries.
#[derive(Debug)]
pub struct Migrations {
    all: Vec<Migration>,
    schema: &'static str,
    /// The name of the table that lists the applied migrations.
    list: &'static str,
    applied: String,
    privileges: TablePrivileges,
    max_lock_wait: Duration,
}

/// Which processes a schema admits, and what this one knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The migration that a process must know, or a later one.
    pub oldest: i64,
    /// The newest migration that this process knows.
    pub newest_known: i64,
}

impl Admission {
    /// Whether this process may use the schema.
    pub fn is_admitted(self) -> bool {
        self.oldest <= self.newest_known
    }
}

impl Migrations {
    /// The migrations of `schema`, which lists the applied ones in its table `table`.
    pub fn new(migrator: &Migrator, schema: &'static str, table: &'static str) -> Self {
        Self {
            all: migrator.iter().cloned().collect(),
            schema,
            list: table,
            applied: format!("{schema}.{table}"),
            privileges: TablePrivileges::default(),
            max_lock_wait: MAX_LOCK_WAIT,
        }
    }

    /// Sets on which tables a process needs fewer privileges than on the others.
    #[must_use]
    pub fn privileges(self, privileges: TablePrivileges) -> Self {
        Self { privileges, ..self }
    }

    /// Sets how long to wait for another migrator; an hour by default.
    #[must_use]
    pub fn max_lock_wait(self, max_lock_wait: Duration) -> Self {
        Self { max_lock_wait, ..self }
    }

    /// Only those up to a version, to make the schema of an older program.
    #[must_use]
    pub fn up_to(mut self, version: i64) -> Self {
        self.all.retain(|migration| migration.version <= version);
        self
    }

    /// The table that lists the applied migrations, with its schema.
    pub fn applied_table(&self) -> &str {
        &self.applied
    }

    /// The migrations, in their order.
    pub fn all(&self) -> &[Migration] {
        &self.all
    }

    /// What a database lacks to hold the schema, whoever uses it; `None` if nothing.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn unsuitable(&self, pool: &PgPool) -> Result<Option<Unsuitable>, sqlx::Error> {
        requirements::check(&mut *pool.acquire().await?).await
    }

    /// What the role of the pool lacks to migrate the schema.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn lacking_to_migrate(&self, pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
        privileges::lacking_to_migrate(&mut *pool.acquire().await?, self.schema).await
    }

    /// What the role of the pool lacks to work with the tables of the schema.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn lacking_to_work(&self, pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
        let mut conn = pool.acquire().await?;
        privileges::lacking_to_work(&mut conn, self.schema, self.list, self.privileges).await
    }

    /// Whether a role owns the schema's tables, as a member of the owner or a superuser does, too.
    ///
    /// # Errors
    /// When there is no such role, or the database can't be asked.
    pub async fn owns(&self, pool: &PgPool, role: &str) -> Result<bool, sqlx::Error> {
        privileges::owns(&mut *pool.acquire().await?, self.schema, role).await
    }

    /// Grants a role what a process needs to work with the schema, and takes everything else on its tables from it.
    ///
    /// # Errors
    /// When there is no such role, or the pool's role does not own the schema.
    pub async fn grant(&self, pool: &PgPool, role: &str) -> Result<(), sqlx::Error> {
        let mut conn = pool.acquire().await?;
        privileges::grant(&mut conn, self.schema, self.list, self.privileges, role).await
    }

    /// Whether the schema admits processes that know these migrations.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn admission(&self, pool: &PgPool) -> Result<Admission, sqlx::Error> {
        let newest_known = self.all.iter().map(|migration| migration.version).max().unwrap_or_default();
        Ok(Admission { oldest: self.oldest_admitted(pool).await?, newest_known })
    }

    /// The oldest migration that a process must know to use the schema, which a newer version may have raised; zero if the
    /// schema does not say.
    async fn oldest_admitted(&self, pool: &PgPool) -> Result<i64, sqlx::Error> {
        let table = format!("{}.admission", self.schema);
        let exists: bool =
            sqlx::query_scalar("select to_regclass($1) is not null").bind(&table).fetch_one(pool).await?;
        if !exists {
            return Ok(0);
        }
        let statement = AssertSqlSafe(format!("select oldest_migration from {table}"));
        Ok(sqlx::query_scalar(statement).fetch_optional(pool).await?.unwrap_or_default())
    }

    /// Applies the migrations that the database lacks. Safe to call from many processes at once: they wait for each
    /// other. It takes a connection out of the pool, and opens others with the pool's options to watch long builds.
    ///
    /// # Errors
    /// When the database is unreachable or unsuitable, was migrated by a newer or a changed version, or refuses a migration;
    /// or when another migrator does not end in time.
    ///
    /// # Cancel safety
    /// A migration that is in progress may still be applied; the lock is held until then.
    pub async fn run(&self, pool: &PgPool) -> Result<(), MigrationError> {
        let options = pool.connect_options();
        // The pool has made it ready as it makes its own.
        let mut conn = pool.acquire().await?.detach();
        if let Some(lack) = requirements::check(&mut conn).await? {
            return Err(MigrationError::Unsuitable(lack));
        }
        lock::acquire(&mut conn, self.max_lock_wait).await?;
        let migrated = self.apply_pending(&mut conn, &options).await;
        // The end of the session releases the lock, also after a failure; but a pooler may keep the session.
        let released = lock::release(&mut conn).await;
        if let Err(error) = released.and(conn.close().await) {
            tracing::debug!(error = %ErrorChain(&error), "the connection of a migration could not be closed in order");
        }
        migrated
    }

    async fn apply_pending(
        &self,
        conn: &mut PgConnection,
        options: &PgConnectOptions,
    ) -> Result<(), MigrationError> {
        conn.create_schema_if_not_exists(self.schema).await?;
        conn.ensure_migrations_table(&self.applied).await?;
        let applied = conn.list_applied_migrations(&self.applied).await?;
        self.check(&applied)?;
        for migration in self.all() {
            if applied.iter().any(|applied| applied.version == migration.version) {
                continue;
            }
            if migration.no_tx {
                self.change_index(conn, options, migration).await?;
            } else {
                conn.apply(&self.applied, migration).await?;
            }
        }
        Ok(())
    }

    /// Refuses a database that was migrated by a newer or a changed version.
    fn check(&self, applied: &[AppliedMigration]) -> Result<(), MigrateError> {
        for applied in applied {
            match self.all().iter().find(|migration| migration.version == applied.version) {
                None => return Err(MigrateError::VersionMissing(applied.version)),
                Some(known) if known.checksum != applied.checksum => {
                    return Err(MigrateError::VersionMismatch(applied.version));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Applies a migration outside a transaction, while its progress is logged.
    async fn change_index(
        &self,
        conn: &mut PgConnection,
        options: &PgConnectOptions,
        migration: &Migration,
    ) -> Result<(), MigrationError> {
        let change = IndexChange::of(migration)?;
        if change.prepare(conn).await? {
            conn.skip(&self.applied, migration).await?;
        } else {
            let pid = index_change::backend_pid(conn).await?;
            let applied = tokio::select! {
                applied = conn.apply(&self.applied, migration) => applied,
                never = change.log_progress(pid, options) => match never {},
            };
            applied.map_err(|source| MigrationError::Index {
                version: migration.version,
                index: change.index.clone(),
                source,
            })?;
        }
        Ok(index_change::restore_time_outs(conn).await?)
    }
}
