//! The migrations of the schema `shop`.

use sqlx::{
    PgPool,
    migrate::{MigrateError, Migrator},
};

/// Creates the schema `shop` or brings it up to date; many processes may do so at once.
///
/// # Errors
/// When the database is unreachable, or was migrated by a newer or a changed version.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    migrator().run(pool).await
}

/// The migrations of the schema `shop`, for a comparison with those that a database has.
///
/// The list of applied migrations is in the schema itself, because two migrators that share a list refuse each other's
/// entries.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx_macros::migrate!("../migrations/shop");
    migrator.create_schema("shop");
    migrator.dangerous_set_table_name("shop.migration");
    migrator
}
