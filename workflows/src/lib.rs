//! The shop: orders, inventory and notifications, and the sagas that move them.
//!
//! Each noun has its types, its rules and its SQL; the sagas combine them. Decisions are pure functions
//! (`orders::status`, `orders::pricing`, `inventory::levels`), and every statement works on a whole batch of sagas, so
//! that two hundred orders cost as many round trips as one.
//!
//! All transactions take locks in one order: the order's row, then its returns, then stock by SKU, then reservations. A stock row is
//! locked before the reservations on it are read for a decision.
//!
//! ```no_run
//! # async fn place(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
//! use shop::{Shop, commands, mail::Mailer, orders, sagas};
//!
//! engine::migrate(&pool).await?;
//! shop::migrate(&pool).await?;
//! let settings = sagas::Settings::new(Mailer::files("mails", "Shop <shop@example.com>")?);
//! let builder = sagas::definitions(settings)?.into_iter().fold(engine::Engine::builder(pool), |b, saga| b.register(saga));
//! let shop = Shop::new(builder.build()?);
//! let order = orders::PlaceOrder {
//!     order_id: uuid::Uuid::now_v7(),
//!     customer_id: uuid::Uuid::now_v7(),
//!     customer_email: "ann@example.com".into(),
//!     items: vec![orders::OrderItem { sku: "TEA-1".into(), quantity: 2 }],
//!     actor: Some("ann".into()),
//! };
//! let order = commands::place_order(&shop, order, None, None).await?;
//! assert_eq!(order.status, orders::OrderStatus::Pending);
//! # Ok(()) }
//! ```

pub mod commands;
pub mod events;
pub mod inventory;
pub mod keys;
pub mod mail;
pub mod mail_templates;
pub mod notifications;
pub mod orders;
pub mod returns;
pub mod sagas;

mod support;

pub use commands::Shop;
pub use engine::{ListError, Page};
pub use mail::describe_metrics;
pub use sagas::DeadJobEvents;
#[cfg(feature = "openapi")]
pub use support::currency_schema::Currency;
pub use support::{
    admin_emails::AdminEmails,
    audit, bounds, breaker_reports,
    change_error::ChangeError,
    idempotency, invariants, pruning,
    schema::{migrate, migrations},
    snapshots,
    violation::Violation,
};
