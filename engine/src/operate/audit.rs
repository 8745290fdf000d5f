//! Reads the audit records of what operators did to sagas.

use chrono::{DateTime, Utc};

use crate::{
    engine::Engine,
    model::audit::{AuditFilter, AuditRecord},
    store,
};

impl Engine {
    /// Lists the audit records, newest first. `after` is the position after which the list starts: a time, and an id
    /// among the records of that time.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        after: Option<(DateTime<Utc>, i64)>,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, sqlx::Error> {
        store::audit::audits(self.pool(), filter, after, limit).await
    }
}
