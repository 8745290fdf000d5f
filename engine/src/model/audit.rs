//! Audit records of what operators did to sagas: cancels, retries, discards, moves, signals and waits that were
//! ended, each with the actor and the reason.

use chrono::{DateTime, Utc};
use serde_json::Value;
use strum::VariantArray;
use uuid::Uuid;

use crate::model::ids::{DeadJobId, SagaId};

/// An operator who acts on sagas.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator<'a> {
    /// The operator's name, for histories, causes and audit records.
    pub actor: &'a str,
    /// How the operator was authenticated, such as by which key and from which address. The audit log stores it as
    /// given.
    pub context: Option<Value>,
}

/// An operator of whom only the name is known.
impl<'a> From<&'a str> for Operator<'a> {
    fn from(actor: &'a str) -> Self {
        Self { actor, context: None }
    }
}

/// One action of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// The id of the record.
    pub id: i64,
    /// When the operator acted.
    pub at: DateTime<Utc>,
    /// The operator's name.
    pub actor: String,
    /// What was done: `cancel`, `retry`, `discard`, `move`, `signal` or `skip-wait`.
    pub action: String,
    /// The saga that was acted on.
    pub saga_id: SagaId,
    /// The dead job that was acted on, if the saga was dead.
    pub dead_job_id: Option<DeadJobId>,
    /// The reason that the operator gave.
    pub reason: String,
    /// How the operator was authenticated; see [`Operator::context`](crate::Operator::context).
    pub context: Option<Value>,
    /// The saga's state before the action: `{"status", "step", "direction"}`, of a move with `graph_hash`, of a wait that was
    /// ended with `waits_for` and `wait_until`. `None` for signals, and for records that are older than this field.
    pub before: Option<Value>,
    /// The saga's state afterwards. It has `cancel_requested` if a worker still had to act on the cancel, `ended` if
    /// the saga was given up, and `abandoned` if effects were left that were not undone. Of a signal it is
    /// `{"signal", "key", "state"}`.
    pub after: Option<Value>,
}

/// The kind of thing that an operator acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub enum AuditSubjectKind {
    /// A saga: it was cancelled, whether dead or active, moved to another graph, sent a signal, or its wait was ended.
    Saga,
    /// A dead job: it was retried or discarded.
    DeadJob,
}

impl AuditSubjectKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;
}

impl AuditRecord {
    /// What was acted on: the dead job, or the saga.
    pub fn subject(&self) -> (AuditSubjectKind, Uuid) {
        match self.dead_job_id.filter(|_| self.action != CANCEL) {
            Some(dead_job) => (AuditSubjectKind::DeadJob, dead_job.0),
            None => (AuditSubjectKind::Saga, self.saga_id.0),
        }
    }
}

/// The only action that has the saga as its subject even if the saga has a dead job.
pub(crate) const CANCEL: &str = "cancel";
/// A saga was moved to another graph.
pub(crate) const MOVE: &str = "move";
/// A signal was sent to a saga.
pub(crate) const SIGNAL: &str = "signal";
/// The wait of a saga was ended.
pub(crate) const SKIP_WAIT: &str = "skip-wait";

/// Which audit records to list; every field narrows the list.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only records of this actor; `a` also matches `a/b`.
    pub actor: Option<String>,
    /// Only records of this action.
    pub action: Option<String>,
    /// Only records about this kind of thing.
    pub subject_kind: Option<AuditSubjectKind>,
    /// Only records about the saga or dead job with this id.
    pub subject: Option<Uuid>,
    /// Only records of this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Only records before this time.
    pub to: Option<DateTime<Utc>>,
}

impl AuditFilter {
    /// Whether the list may have to look at many records before a page is full. Indexes lead to those of a subject and
    /// of a time.
    pub fn may_scan(&self) -> bool {
        self.actor.is_some() || self.action.is_some() || self.subject_kind.is_some()
    }
}
