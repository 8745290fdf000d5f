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

use std::time::Duration;

use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::{AppliedMigration, Migrate, MigrateError, Migration, Migrator},
    postgres::PgConnectOptions,
};

pub use error::MigrationError;
use index_change::IndexChange;

/// How long a migrator waits for another one, unless it is told otherwise. An index of a large table takes minutes.
const MAX_LOCK_WAIT: Duration = Duration::from_hours(1);

/// The migrations of one schema, and the table in that schema that lists the applied ones.
///
/// Each schema has a list of its own, because two migrators that share a list refuse each other's entries.
#[derive(Debug)]
pub struct Migrations {
    all: Vec<Migration>,
    schema: &'static str,
    applied: String,
    max_lock_wait: Duration,
}

impl Migrations {
    /// The migrations of `schema`, which lists the applied ones in its table `table`.
    pub fn new(migrator: &Migrator, schema: &'static str, table: &str) -> Self {
        Self {
            all: migrator.iter().cloned().collect(),
            schema,
            applied: format!("{schema}.{table}"),
            max_lock_wait: MAX_LOCK_WAIT,
        }
    }

    /// Sets how long to wait for another migrator; an hour by default.
    #[must_use]
    pub fn max_lock_wait(self, max_lock_wait: Duration) -> Self {
        Self { max_lock_wait, ..self }
    }

    /// The table that lists the applied migrations, with its schema.
    pub fn applied_table(&self) -> &str {
        &self.applied
    }

    /// The migrations, in their order.
    pub fn all(&self) -> &[Migration] {
        &self.all
    }

    /// Applies the migrations that the database lacks. Safe to call from many processes at once: they wait for each
    /// other. It uses connections of its own, with the options of the pool.
    ///
    /// # Errors
    /// When the database is unreachable, was migrated by a newer or a changed version, or refuses a migration; or when
    /// another migrator does not end in time.
    ///
    /// # Cancel safety
    /// A migration that is in progress may still be applied; the lock is held until then.
    pub async fn run(&self, pool: &PgPool) -> Result<(), MigrationError> {
        let options = pool.connect_options();
        let mut conn = PgConnection::connect_with(&options).await?;
        lock::acquire(&mut conn, self.max_lock_wait).await?;
        let migrated = self.apply_pending(&mut conn, &options).await;
        // The end of the session releases the lock, also after a failure.
        if let Err(error) = conn.close().await {
            tracing::debug!(%error, "the connection of a migration could not be closed in order");
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
