//! Reads the audit records of what operators did to sagas.

use chrono::{DateTime, Utc};

use crate::{
    engine::Engine,
    model::{
        audit::{AuditFilter, AuditRecord},
        page::PageOf,
    },
    store,
    support::bounded_list::ListError,
};

impl Engine {
    /// Lists the audit records, newest first. `after` is the position after which the list starts: a time, and an id
    /// among the records of that time.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        after: Option<(DateTime<Utc>, i64)>,
        limit: u32,
    ) -> Result<PageOf<AuditRecord>, ListError> {
        store::audit::audits(self.pool(), filter, after, limit).await
    }
}
