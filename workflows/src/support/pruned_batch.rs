//! What one batch of deletions did.

use chrono::{DateTime, Utc};
use sqlx_macros::FromRow;

/// What one batch deleted of rows that are over their time.
#[derive(Clone, Copy, Debug, FromRow)]
pub(crate) struct PrunedBatch {
    /// How many rows.
    pub(crate) deleted: i64,
    /// The time of the newest of them. The next batch starts there, and does not walk over the index entries of the rows
    /// that are deleted and not yet vacuumed.
    pub(crate) through: Option<DateTime<Utc>>,
}
