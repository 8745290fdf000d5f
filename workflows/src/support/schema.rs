//! Brings the schema `shop` up to date.

use sqlx::{PgPool, migrate::MigrateError};

/// Creates the schema `shop` or brings it up to date; many processes may do so at once.
///
/// Its list of applied migrations is in the schema itself, because two migrators on one list refuse each other's
/// entries.
///
/// # Errors
/// When the database is away, or was migrated by a newer or a changed version.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    let mut migrator = sqlx_macros::migrate!("../migrations/shop");
    migrator.create_schema("shop");
    migrator.dangerous_set_table_name("shop.migration");
    migrator.run(pool).await
}
