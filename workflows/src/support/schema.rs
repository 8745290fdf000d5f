//! The migrations of the schema `shop`.

use engine::{MigrationError, Migrations, TablePrivileges};
use sqlx::PgPool;

/// Creates the schema `shop` or brings it up to date; many processes may do so at once.
///
/// # Errors
/// As [`Migrations::run`].
pub async fn migrate(pool: &PgPool) -> Result<(), MigrationError> {
    migrations().run(pool).await
}

/// The migrations of the schema `shop`, for a comparison with those that a database has.
pub fn migrations() -> Migrations {
    Migrations::new(&sqlx_macros::migrate!("../migrations/shop"), "shop", "migration").privileges(
        TablePrivileges {
            read_only: &["admission", "order_by_status", "order_recording", "notification_by_status"],
            append_only: &["audit", "stock_movement"],
        },
    )
}
