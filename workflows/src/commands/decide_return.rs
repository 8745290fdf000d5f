//! What people decide about returns: approve, reject, receive the parcel. Each changes the return and signals its saga
//! in one transaction. If the saga is dead, given up or gone, nobody would follow: then the command does what is left.

use engine::{NewSaga, SagaId, Signal, SignalError, Status};
use serde_json::json;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::shop::Shop;
use crate::{
    mail_templates,
    notifications::DELIVER_NOTIFICATION,
    returns::{
        self, ChangedReturn, LockedReturn, OrderReturn, PARCEL_ARRIVED, Parcel, RETURN_DECIDED, Reason,
        ReceivedItem, ReturnDecision, ReturnStatus, ReturnStatusChange, received_lines,
    },
    sagas::{
        RETURN_APPROVED,
        return_order::{Closed, Closing, ReturnEnd, close_rows},
    },
    support::{
        audit::{self, AuditActor, AuditEntry},
        bounds::{REASON, REQUIRED_REASON, TextBounds},
        change_error::ChangeError,
        outbox,
        violation::Violation,
    },
};

/// Why a return was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ReturnRefusal {
    /// Its status does not allow it.
    #[error("a return that is {from} can't become {to}")]
    IllegalStatus {
        /// The status of the return.
        from: ReturnStatus,
        /// The status that was asked for.
        to: ReturnStatus,
    },
    /// Its saga takes no signals any more: it was cancelled, or an operator has to look after it.
    #[error("the workflow of the return does not go on: {0}")]
    WorkflowEnded(String),
}

/// A return was not changed.
pub type ReturnError = ChangeError<ReturnRefusal>;

/// Approves a return that is requested: its customer is told to send it. Approving an approved return changes nothing.
///
/// # Errors
/// See [`ReturnError`]. Nothing has changed then, unless the database's answer was lost.
pub async fn approve_return(
    shop: &Shop,
    return_id: Uuid,
    reason: Option<&str>,
    by: impl Into<AuditActor<'_>>,
    expected_version: Option<i64>,
) -> Result<OrderReturn, ReturnError> {
    let by = by.into();
    let decision = ReturnDecision { approved: true, reason: checked(REASON, reason)? };
    let mut change = Change::begin(shop, return_id, expected_version).await?;
    if change.found.status == ReturnStatus::Approved {
        return change.commit().await;
    }
    change.write("return.approve", ReturnStatus::Approved, reason, &by).await?;
    if change.is_followed {
        change.signal(RETURN_DECIDED.with(&decision).sender(by.actor)).await?;
    } else {
        let mail = DELIVER_NOTIFICATION.with(&mail_templates::return_approved(&change.found));
        change.start(vec![mail.business_key(format!("{RETURN_APPROVED}{return_id}"))]).await?;
    }
    change.commit().await
}

/// Rejects a return that is requested: its customer is told why. Rejecting a rejected return changes nothing. One that is
/// approved and whose saga was given up is called off in this way.
///
/// # Errors
/// See [`ReturnError`]. Nothing has changed then, unless the database's answer was lost.
pub async fn reject_return(
    shop: &Shop,
    return_id: Uuid,
    reason: &str,
    by: impl Into<AuditActor<'_>>,
    expected_version: Option<i64>,
) -> Result<OrderReturn, ReturnError> {
    let by = by.into();
    let decision = ReturnDecision { approved: false, reason: checked(REQUIRED_REASON, Some(reason))? };
    let mut change = Change::begin(shop, return_id, expected_version).await?;
    if change.found.status == ReturnStatus::Rejected {
        return change.commit().await;
    }
    let is_called_off = !change.is_followed && change.found.status == ReturnStatus::Approved;
    let to = if is_called_off { ReturnStatus::Cancelled } else { ReturnStatus::Rejected };
    change.write("return.reject", to, Some(reason), &by).await?;
    if change.is_followed {
        change.signal(RETURN_DECIDED.with(&decision).sender(by.actor)).await?;
    } else {
        change.close(&by, reason).await?;
    }
    change.commit().await
}

/// Receives the parcel of an approved return: `items` says what was in it; if it is empty, all that was announced was, and
/// is fit for sale. What is fit for sale goes back to stock, and the customer is told. A parcel that was received before
/// its saga was given up is restocked as it was recorded.
///
/// # Errors
/// See [`ReturnError`]. Nothing has changed then, unless the database's answer was lost.
pub async fn receive_return(
    shop: &Shop,
    return_id: Uuid,
    items: &[ReceivedItem],
    reason: Option<&str>,
    by: impl Into<AuditActor<'_>>,
    expected_version: Option<i64>,
) -> Result<OrderReturn, ReturnError> {
    let by = by.into();
    let parcel = Parcel { items: items.to_vec(), reason: checked(REASON, reason)? };
    let mut change = Change::begin(shop, return_id, expected_version).await?;
    let is_recorded = !change.is_followed && change.found.status == ReturnStatus::Received;
    if !is_recorded {
        change.check(ReturnStatus::Received)?;
        let lines = received_lines(&change.found.items, items).map_err(ReturnError::Invalid)?;
        returns::set_received(&mut change.tx, return_id, &lines).await?;
        change.write("return.receive", ReturnStatus::Received, reason, &by).await?;
    }
    if change.is_followed {
        change.signal(PARCEL_ARRIVED.with(&parcel).sender(by.actor)).await?;
    } else {
        change.close(&by, "").await?;
    }
    change.commit().await
}

/// A change of a return, which is locked.
struct Change<'a> {
    shop: &'a Shop,
    tx: Transaction<'static, Postgres>,
    found: LockedReturn,
    /// Whether its saga goes on, and follows what is decided.
    is_followed: bool,
}

impl<'a> Change<'a> {
    async fn begin(
        shop: &'a Shop,
        return_id: Uuid,
        expected_version: Option<i64>,
    ) -> Result<Self, ReturnError> {
        // Before the transaction: one that asks for a second connection could wait for itself. If the saga dies meanwhile,
        // the signal is kept for it, and the same command closes the return later.
        let seen = returns::get(shop.pool(), return_id).await?.ok_or(ReturnError::NotFound)?;
        let saga = shop.engine().saga(SagaId(seen.workflow_id)).await?;
        let is_followed =
            saga.is_some_and(|saga| matches!(saga.status, Status::Running | Status::Compensating));
        let mut tx = shop.pool().begin().await?;
        let found = returns::lock_returns(&mut tx, &[return_id]).await?.remove(&return_id);
        let found = found.ok_or(ReturnError::NotFound)?;
        if expected_version.is_some_and(|expected| expected != found.version) {
            return Err(ReturnError::VersionMismatch { current: found.version });
        }
        Ok(Self { shop, tx, found, is_followed })
    }

    fn check(&self, to: ReturnStatus) -> Result<(), ReturnError> {
        let from = self.found.status;
        if from.next().contains(&to) {
            Ok(())
        } else {
            Err(ReturnError::Refused(ReturnRefusal::IllegalStatus { from, to }))
        }
    }

    /// Changes the status, with its event and its audit record.
    async fn write(
        &mut self,
        action: &'static str,
        to: ReturnStatus,
        reason: Option<&str>,
        by: &AuditActor<'_>,
    ) -> Result<(), ReturnError> {
        self.check(to)?;
        let LockedReturn { return_id, status: from, .. } = self.found;
        let change = ReturnStatusChange { return_id, from, to, actor: by.actor, reason };
        let changed = returns::change_statuses(&mut self.tx, &[change]).await?;
        let events: Vec<_> = changed.iter().map(ChangedReturn::event).collect();
        outbox::append(&mut self.tx, &events).await?;
        let subject = return_id.to_string();
        let entry = AuditEntry::new(action, "return", &subject).reason(reason);
        let items = changed.first().map(|changed| &changed.items);
        let (before, after) = (json!({"status": from.name()}), json!({"status": to.name(), "items": items}));
        audit::record(&mut self.tx, by, &[entry.before(before).after(after)]).await?;
        Ok(())
    }

    async fn signal(&mut self, signal: Signal) -> Result<(), ReturnError> {
        let saga_id = SagaId(self.found.workflow_id);
        match self.shop.engine().signal_in(&mut self.tx, saga_id, signal).await {
            Ok(_) => Ok(()),
            Err(SignalError::Database(error)) => Err(error.into()),
            Err(error) => Err(ReturnError::Refused(ReturnRefusal::WorkflowEnded(error.to_string()))),
        }
    }

    async fn start(&mut self, mails: Vec<NewSaga>) -> Result<(), ReturnError> {
        Ok(self.shop.start_in(&mut self.tx, mails).await?)
    }

    /// Closes the return in the place of its saga, by what its row says.
    async fn close(&mut self, by: &AuditActor<'_>, reason: &str) -> Result<(), ReturnError> {
        let end =
            ReturnEnd { status: ReturnStatus::Cancelled, actor: by.actor.into(), reason: reason.into() };
        let LockedReturn { return_id, order_id, .. } = self.found;
        let closing = Closing { return_id, order_id, parcel: None, end: &end, trace: None };
        let Closed { mails, .. } = close_rows(&mut self.tx, &[closing]).await?;
        self.start(mails).await
    }

    async fn commit(mut self) -> Result<OrderReturn, ReturnError> {
        let changed =
            returns::read(&mut self.tx, self.found.return_id).await?.ok_or(ReturnError::NotFound)?;
        self.tx.commit().await?;
        Ok(changed)
    }
}

/// Checks a reason.
fn checked(bounds: TextBounds, reason: Option<&str>) -> Result<Option<Reason>, ReturnError> {
    let Some(reason) = reason else { return Ok(None) };
    if let Some(violation) = bounds.violation("/reason", reason) {
        return Err(ReturnError::Invalid(vec![violation]));
    }
    let wrong = |message: String| ReturnError::Invalid(vec![Violation::new("/reason", "invalid", message)]);
    Reason::try_from(reason.to_owned()).map(Some).map_err(wrong)
}
