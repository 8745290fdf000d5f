//! What every layer of the shop uses: checks of input, the audit, the outbox, what belongs to no noun.

pub mod audit;
pub mod bounds;
pub mod breaker_reports;
pub mod idempotency;
pub mod invariants;

pub(crate) mod admin_emails;
pub(crate) mod bounded_list;
pub(crate) mod change_error;
pub(crate) mod currency;
pub(crate) mod email;
pub(crate) mod outbox;
pub(crate) mod schema;
pub(crate) mod text_column;
pub(crate) mod validator;
pub(crate) mod violation;
