//! New returns and changes of status: the rows to write and their events.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::{order_return::ReturnLine, request::ReturnItem, status::ReturnStatus};
use crate::support::{audit::AuditActor, outbox::NewEvent};

/// A return to be stored as requested.
#[derive(Debug)]
pub(crate) struct NewReturnRow<'a> {
    pub(crate) return_id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) workflow_id: Uuid,
    pub(crate) reason: &'a str,
    pub(crate) actor: &'a str,
    /// Who requested it, for the audit log; `None` if that is recorded elsewhere.
    pub(crate) audited: Option<AuditActor<'a>>,
    pub(crate) lines: &'a [ReturnItem],
}

impl NewReturnRow<'_> {
    /// The event that the return was requested.
    pub(crate) fn requested(&self) -> NewEvent {
        let items: Vec<Value> =
            self.lines.iter().map(|line| json!({"sku": line.sku, "quantity": line.quantity})).collect();
        let payload = json!({
            "return_id": self.return_id,
            "order_id": self.order_id,
            "status": ReturnStatus::Requested,
            "reason": self.reason,
            "items": items,
        });
        NewEvent::new("return.requested", &self.return_id, &payload)
    }
}

/// A change of one return's status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReturnStatusChange<'a> {
    pub(crate) return_id: Uuid,
    pub(crate) from: ReturnStatus,
    pub(crate) to: ReturnStatus,
    pub(crate) actor: &'a str,
    pub(crate) reason: Option<&'a str>,
}

/// A return whose status has changed.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct ChangedReturn {
    pub(crate) return_id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) status: ReturnStatus,
    pub(crate) status_reason: Option<String>,
    pub(crate) version: i64,
    pub(crate) updated_at: DateTime<Utc>,
    #[sqlx(json)]
    pub(crate) items: Vec<ReturnLine>,
}

impl ChangedReturn {
    /// The event of the new status.
    pub(crate) fn event(&self) -> NewEvent {
        let routing_key = match self.status {
            ReturnStatus::Requested => "return.requested",
            ReturnStatus::Approved => "return.approved",
            ReturnStatus::Received => "return.received",
            ReturnStatus::Completed => "return.completed",
            ReturnStatus::Rejected => "return.rejected",
            ReturnStatus::Expired => "return.expired",
            ReturnStatus::Cancelled => "return.cancelled",
        };
        let payload = json!({
            "return_id": self.return_id,
            "order_id": self.order_id,
            "status": self.status,
            "status_reason": self.status_reason,
            "version": self.version,
            "items": self.items,
            "at": self.updated_at,
        });
        NewEvent::new(routing_key, &self.return_id, &payload)
    }
}
