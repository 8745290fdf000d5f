//! What people did to sagas: cancels, retries and discards, each with who and why.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::model::ids::{DeadJobId, SagaId};

/// Who acts on sagas.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator<'a> {
    /// Their name, for histories, causes and audits.
    pub actor: &'a str,
    /// What the caller knows of how they came in, such as their key and address; the audit keeps it as it is.
    pub context: Option<Value>,
}

/// Somebody of whom only the name is known.
impl<'a> From<&'a str> for Operator<'a> {
    fn from(actor: &'a str) -> Self {
        Self { actor, context: None }
    }
}

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
    /// What the caller knew of how they came in, as it was given; see [`Operator::context`](crate::Operator::context).
    pub context: Option<Value>,
    /// How the saga was: `{"status", "step", "direction"}`. Not known of what was done before this was recorded.
    pub before: Option<Value>,
    /// How it was afterwards; with `cancel_requested` where a worker still had to take notice, with `ended` where it was
    /// given up, and with `abandoned` where that left standing what was not undone.
    pub after: Option<Value>,
}

/// What a person did something to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditSubjectKind {
    /// A saga: it was cancelled, dead or alive.
    Saga,
    /// A dead job: it was retried or discarded.
    DeadJob,
}

impl AuditSubjectKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Saga, Self::DeadJob];
}

impl AuditRecord {
    /// What it was done to.
    pub fn subject(&self) -> (AuditSubjectKind, Uuid) {
        match self.dead_job_id.filter(|_| self.action != CANCEL) {
            Some(dead_job) => (AuditSubjectKind::DeadJob, dead_job.0),
            None => (AuditSubjectKind::Saga, self.saga_id.0),
        }
    }
}

/// The one thing that is done to a saga even when it has a dead job.
pub(crate) const CANCEL: &str = "cancel";

/// Which records to list; every field narrows.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// By this actor; `a` finds `a/b` too.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// About this kind of thing.
    pub subject_kind: Option<AuditSubjectKind>,
    /// About this saga, or this dead job.
    pub subject: Option<Uuid>,
    /// At this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub to: Option<DateTime<Utc>>,
}
