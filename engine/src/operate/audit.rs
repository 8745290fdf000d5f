//! What people did to sagas: cancels, retries and discards, each with who and why.

use chrono::{DateTime, Utc};

use crate::{
    engine::Engine,
    model::audit::{AuditFilter, AuditRecord},
    store,
};

impl Engine {
    /// Lists what people did to sagas, the newest first, from behind `after` on: a time, and a number among the records
    /// of that time.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        after: Option<(DateTime<Utc>, i64)>,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, sqlx::Error> {
        store::audit::audits(self.pool(), filter, after, limit).await
    }
}
