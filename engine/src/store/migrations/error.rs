//! Why a schema can't be brought up to date.

use std::time::Duration;

use sqlx::migrate::MigrateError;

use super::requirements::Unsuitable;

/// A schema can't be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The database can't hold the schema.
    #[error("the database can't be used: {0}")]
    Unsuitable(Unsuitable),
    /// Another migrator did not end in time. Run the migration again later.
    #[error(
        "another migration is running (pid {holder} of the server), and has not ended within {} s", .waited.as_secs()
    )]
    Locked {
        /// The process of the database server that holds the lock.
        holder: i32,
        /// How long this migrator waited.
        waited: Duration,
    },
    /// An index can't be built or dropped. Remove the cause and run the migration again: it drops what is left of the index, and
    /// builds it anew.
    #[error(
        "migration {version} can't build or drop the index {index}; run it again when the cause is removed"
    )]
    Index {
        /// The number of the migration.
        version: i64,
        /// The name of the index.
        index: String,
        /// The database's answer.
        source: MigrateError,
    },
    /// A migration failed, or the database was migrated by a newer or a changed version.
    #[error(transparent)]
    Migration(#[from] MigrateError),
    /// The database can't be reached.
    #[error("the database can't be used for a migration")]
    Database(#[from] sqlx::Error),
}
