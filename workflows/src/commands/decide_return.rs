//! What people decide about returns: approve, reject, receive the parcel. Each changes the return and signals its saga
//! in one transaction.

use engine::{SagaId, Signal, SignalError};
use serde_json::json;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::shop::Shop;
use crate::{
    returns::{
        self, ChangedReturn, LockedReturn, OrderReturn, PARCEL_ARRIVED, Parcel, RETURN_DECIDED, ReceivedItem,
        ReturnDecision, ReturnStatus, ReturnStatusChange, received_lines,
    },
    support::{
        audit::{self, AuditActor, AuditEntry},
        bounds::{REASON, REQUIRED_REASON, TextBounds},
        change_error::ChangeError,
        outbox,
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
    check(REASON, reason)?;
    let decision =
        ReturnDecision { approved: true, actor: by.actor.into(), reason: reason.map(ToOwned::to_owned) };
    decide(shop, return_id, &decision, &by, expected_version).await
}

/// Rejects a return that is requested: its customer is told why. Rejecting a rejected return changes nothing.
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
    check(REQUIRED_REASON, Some(reason))?;
    let decision = ReturnDecision { approved: false, actor: by.actor.into(), reason: Some(reason.into()) };
    decide(shop, return_id, &decision, &by, expected_version).await
}

/// Receives the parcel of an approved return: `items` says what was in it; if it is empty, all that was announced was, and
/// is fit for sale. What is fit for sale goes back to stock, and the customer is told.
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
    check(REASON, reason)?;
    let to = ReturnStatus::Received;
    let Changing { mut tx, found } = begin(shop, return_id, to, expected_version).await?;
    let lines = received_lines(&found.items, items).map_err(ReturnError::Invalid)?;
    returns::set_received(&mut tx, return_id, &lines).await?;
    let parcel =
        Parcel { actor: by.actor.into(), items: items.to_vec(), reason: reason.map(ToOwned::to_owned) };
    let change = ReturnStatusChange { return_id, from: found.status, to, actor: by.actor, reason };
    write(&mut tx, "return.receive", &change, &by).await?;
    signal(shop, &mut tx, &found, PARCEL_ARRIVED.with(&parcel).sender(by.actor)).await?;
    commit(tx, return_id).await
}

async fn decide(
    shop: &Shop,
    return_id: Uuid,
    decision: &ReturnDecision,
    by: &AuditActor<'_>,
    expected_version: Option<i64>,
) -> Result<OrderReturn, ReturnError> {
    let (to, action) = if decision.approved {
        (ReturnStatus::Approved, "return.approve")
    } else {
        (ReturnStatus::Rejected, "return.reject")
    };
    let Changing { mut tx, found } = begin(shop, return_id, to, expected_version).await?;
    if found.status == to {
        return commit(tx, return_id).await;
    }
    let reason = decision.reason.as_deref();
    let change = ReturnStatusChange { return_id, from: found.status, to, actor: by.actor, reason };
    write(&mut tx, action, &change, by).await?;
    signal(shop, &mut tx, &found, RETURN_DECIDED.with(decision).sender(by.actor)).await?;
    commit(tx, return_id).await
}

/// A return that is locked, in the transaction that changes it.
struct Changing {
    tx: Transaction<'static, Postgres>,
    found: LockedReturn,
}

/// Locks a return that can change to this status, or has it after a decision.
async fn begin(
    shop: &Shop,
    return_id: Uuid,
    to: ReturnStatus,
    expected_version: Option<i64>,
) -> Result<Changing, ReturnError> {
    let mut tx = shop.pool().begin().await?;
    let found = returns::lock_returns(&mut tx, &[return_id]).await?.remove(&return_id);
    let found = found.ok_or(ReturnError::NotFound)?;
    if expected_version.is_some_and(|expected| expected != found.version) {
        return Err(ReturnError::VersionMismatch { current: found.version });
    }
    let is_repeated = found.status == to && matches!(to, ReturnStatus::Approved | ReturnStatus::Rejected);
    if !is_repeated && !found.status.next().contains(&to) {
        return Err(ReturnError::Refused(ReturnRefusal::IllegalStatus { from: found.status, to }));
    }
    Ok(Changing { tx, found })
}

async fn write(
    tx: &mut PgConnection,
    action: &'static str,
    change: &ReturnStatusChange<'_>,
    by: &AuditActor<'_>,
) -> Result<(), ReturnError> {
    let changed = returns::change_statuses(tx, std::slice::from_ref(change)).await?;
    let events: Vec<_> = changed.iter().map(ChangedReturn::event).collect();
    outbox::append(tx, &events).await?;
    let subject = change.return_id.to_string();
    let entry = AuditEntry::new(action, "return", &subject).reason(change.reason);
    let items = changed.first().map(|changed| &changed.items);
    let (before, after) =
        (json!({"status": change.from.name()}), json!({"status": change.to.name(), "items": items}));
    audit::record(tx, by, &[entry.before(before).after(after)]).await?;
    Ok(())
}

async fn signal(
    shop: &Shop,
    tx: &mut PgConnection,
    found: &LockedReturn,
    signal: Signal,
) -> Result<(), ReturnError> {
    match shop.engine().signal_in(tx, SagaId(found.workflow_id), signal).await {
        Ok(_) => Ok(()),
        Err(SignalError::Database(error)) => Err(error.into()),
        Err(error) => Err(ReturnError::Refused(ReturnRefusal::WorkflowEnded(error.to_string()))),
    }
}

async fn commit(mut tx: Transaction<'static, Postgres>, return_id: Uuid) -> Result<OrderReturn, ReturnError> {
    let changed = returns::read(&mut tx, return_id).await?.ok_or(ReturnError::NotFound)?;
    tx.commit().await?;
    Ok(changed)
}

fn check(bounds: TextBounds, reason: Option<&str>) -> Result<(), ReturnError> {
    match reason.and_then(|reason| bounds.violation("/reason", reason)) {
        Some(violation) => Err(ReturnError::Invalid(vec![violation])),
        None => Ok(()),
    }
}
