//! What people did to sagas: cancels, retries and discards, each with who and why.

use chrono::{DateTime, Utc};

use crate::{
    engine::Engine,
    ids::{DeadJobId, SagaId},
    store,
};

/// One thing that a person did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What: `cancel`, `retry` or `discard`.
    pub action: String,
    /// To which saga.
    pub saga_id: SagaId,
    /// To which dead job of it, if it had died.
    pub dead_job_id: Option<DeadJobId>,
    /// Why.
    pub reason: String,
}

/// Which records to list; every field narrows.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// By this actor; `a` finds `a/b` too.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// About this saga.
    pub saga_id: Option<SagaId>,
    /// About this dead job.
    pub dead_job_id: Option<DeadJobId>,
    /// At this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub to: Option<DateTime<Utc>>,
}

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
        store::audits::audits(self.pool(), filter, after, limit).await
    }
}
