//! What belongs to no noun: validation, the audit log, the outbox, stored responses, bounded lists, breaker reports,
//! invariants, the deletion of what is over its time, snapshots that hold back vacuum.

pub mod audit;
pub mod bounds;
pub mod breaker_reports;
pub mod idempotency;
pub(crate) mod ids;
pub mod invariants;
pub mod pruning;
pub mod snapshots;

pub(crate) mod admin_emails;
pub(crate) mod bounded_list;
pub(crate) mod change_error;
pub(crate) mod characters;
pub(crate) mod currency;
#[cfg(feature = "openapi")]
pub(crate) mod currency_schema;
pub(crate) mod email;
pub(crate) mod outbox;
pub(crate) mod pruned_batch;
pub(crate) mod schema;
pub(crate) mod text_column;
pub(crate) mod validator;
pub(crate) mod violation;
