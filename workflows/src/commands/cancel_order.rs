//! Cancels orders, at every stage of their life.

use std::time::Duration;

use engine::{CancelError, CancelOutcome, SagaId, StartError, Started, Status};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::shop::Shop;
use crate::{
    orders::{self, CANCEL_ORDER, CancelOrder, Order, OrderStatus, OrderStatusChange, PLACE_ORDER},
    support::{
        audit::{self, AuditActor, AuditEntry},
        bounds::REQUIRED_REASON,
        change_error::ChangeError,
        outbox,
    },
};

/// How long a cancel waits for whoever is just placing the order, so that the answer says how it ended.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a cancel starts over because the order changed between the read and the write. An order changes its status
/// only a few times, so this limit is reached only if something is wrong.
const MAX_ROUNDS: u32 = 4;

/// Why an order can't be cancelled, or can't be cancelled now.
#[derive(Debug, thiserror::Error)]
pub enum CancelRefusal {
    /// The order has left, is closed, or is an unfinished placement that can't be undone.
    #[error("{message}")]
    NotCancellable {
        /// The order's status.
        status: OrderStatus,
        /// The reason, in one sentence for people.
        message: String,
    },
    /// The cancel of an order that must still have a certain version is noted or in progress, and its outcome is not known
    /// yet: the caller should ask again. The sentence is for people.
    #[error("{0}")]
    Pending(String),
    /// The cancel can't be carried out now: the caller should try again.
    #[error("orders can't be cancelled now: {0}")]
    Unavailable(String),
}

/// An order was not cancelled.
pub type CancelOrderError = ChangeError<CancelRefusal>;

/// Cancels an order. While it is being placed, its placement saga compensates; later, a `cancel-order` saga releases
/// its stock. Cancelling a cancelled order changes nothing. The order may still be `cancelling` when this returns, or
/// `pending` if a worker or another transaction holds its placement. Then the cancel is noted, and will be carried out:
/// if the order is confirmed first, that commit starts `cancel-order`.
///
/// # Errors
/// See [`CancelOrderError`].
pub async fn cancel_order(
    shop: &Shop,
    order_id: Uuid,
    reason: &str,
    by: impl Into<AuditActor<'_>>,
) -> Result<Order, CancelOrderError> {
    cancel_order_version(shop, order_id, reason, by, None).await
}

/// As [`cancel_order`], if the order still has the version that the caller saw. The version of a placed order is
/// compared under the lock with which `begin-cancellation` changes its status. An order that is being placed keeps its
/// first version until it is confirmed or closed, and its placement compensates only until then; so the outcome of the
/// cancel tells whether the version was still the same.
///
/// # Errors
/// As [`cancel_order`], and [`CancelOrderError::VersionMismatch`].
pub async fn cancel_order_version(
    shop: &Shop,
    order_id: Uuid,
    reason: &str,
    by: impl Into<AuditActor<'_>>,
    expected_version: Option<i64>,
) -> Result<Order, CancelOrderError> {
    let by = by.into();
    if let Some(violation) = REQUIRED_REASON.violation("/reason", reason) {
        return Err(CancelOrderError::Invalid(vec![violation]));
    }
    let input = CancelOrder { order_id, reason: reason.into(), actor: by.actor.into(), expected_version };
    let mut request = CancelRequest { by, is_recorded: false, is_placement_cancelled: false };
    let mut status = OrderStatus::Pending;
    for _ in 0..MAX_ROUNDS {
        let order = orders::get(shop.pool(), order_id).await?.ok_or(CancelOrderError::NotFound)?;
        status = order.status;
        let is_cancelled = matches!(status, OrderStatus::Cancelling | OrderStatus::Cancelled);
        let is_as_requested = is_cancelled && request.is_placement_cancelled;
        if !is_as_requested && expected_version.is_some_and(|expected| expected != order.version) {
            return Err(CancelOrderError::VersionMismatch { current: order.version });
        }
        let done = match status {
            OrderStatus::Cancelling | OrderStatus::Cancelled => return Ok(order),
            OrderStatus::Shipped | OrderStatus::Delivered | OrderStatus::Rejected | OrderStatus::Returned => {
                return Err(too_late(status));
            }
            OrderStatus::Pending => {
                request.record_once(shop, &order, reason).await?;
                let done = cancel_placement(shop, &order, &input, &request.by).await?;
                request.is_placement_cancelled = true;
                done
            }
            OrderStatus::Confirmed | OrderStatus::Processing => {
                request.record_once(shop, &order, reason).await?;
                cancel_placed(shop, &input).await?
            }
        };
        match done {
            Round::Accepted => {
                return orders::get(shop.pool(), order_id).await?.ok_or(CancelOrderError::NotFound);
            }
            Round::OrderChanged => {}
        }
    }
    let message = "the order keeps changing: look where it is, and ask again".into();
    Err(CancelOrderError::Refused(CancelRefusal::NotCancellable { status, message }))
}

/// The result of one round.
enum Round {
    /// The order is cancelled or will be.
    Accepted,
    /// The order has changed since it was read: start over.
    OrderChanged,
}

/// One request, over all its rounds.
struct CancelRequest<'a> {
    by: AuditActor<'a>,
    is_recorded: bool,
    /// Whether its placement was asked to compensate. If the order is cancelled afterwards, that may be the reason.
    is_placement_cancelled: bool,
}

impl CancelRequest<'_> {
    /// Records who asked for the cancel, once. The sagas start in commits of their own, so the record is written before
    /// them: no cancel is without one. The timeline shows whether the order was cancelled.
    async fn record_once(&mut self, shop: &Shop, order: &Order, reason: &str) -> Result<(), sqlx::Error> {
        if !std::mem::replace(&mut self.is_recorded, true) {
            let subject = order.order_id.to_string();
            let entry = AuditEntry::new("order.cancel", "order", &subject).reason(Some(reason));
            let entry = entry.before(json!({"status": order.status.name()}));
            let entry = entry.after(json!({"asked": OrderStatus::Cancelled.name()}));
            audit::record(&mut *shop.pool().acquire().await?, &self.by, &[entry]).await?;
        }
        Ok(())
    }
}

async fn cancel_placement(
    shop: &Shop,
    order: &Order,
    request: &CancelOrder,
    by: &AuditActor<'_>,
) -> Result<Round, CancelOrderError> {
    let saga_id = SagaId(order.workflow_id);
    let not_cancellable = |message: String| {
        CancelOrderError::Refused(CancelRefusal::NotCancellable { status: order.status, message })
    };
    // A cancel of a certain version must not hit the order that is confirmed meanwhile.
    let is_conditional = request.expected_version.is_some();
    let cancelled = if is_conditional {
        shop.engine().cancel_or_drop(saga_id, *by, &request.reason).await
    } else {
        shop.engine().cancel(saga_id, *by, &request.reason).await
    };
    match cancelled {
        Ok(CancelOutcome::Compensating) => {
            mark_cancelling(shop.pool(), request).await?;
            Ok(Round::Accepted)
        }
        Ok(CancelOutcome::Requested) => {
            let noted = "the order is still being placed; that it is to be cancelled is noted, and is done unless the \
                         order is confirmed first";
            outcome(shop, order, is_conditional.then_some(noted)).await
        }
        Ok(CancelOutcome::AlreadyCompensating) => {
            let undone = "what was done to place the order is being undone already";
            outcome(shop, order, is_conditional.then_some(undone)).await
        }
        Err(CancelError::PastPivot { .. }) => Ok(Round::OrderChanged),
        Err(CancelError::Ended(status)) => match status {
            Status::Running | Status::Compensating | Status::Completed | Status::Compensated => {
                Ok(Round::OrderChanged)
            }
            Status::Dead => Err(not_cancellable(
                "its placement was given up by an operator, who left it as it was".into(),
            )),
        },
        Err(CancelError::NotFound(_)) => {
            Err(not_cancellable(format!("the `{}` saga that places it is gone", PLACE_ORDER.name())))
        }
        Err(CancelError::RefusedByObserver(reason)) => {
            Err(CancelOrderError::Refused(CancelRefusal::Unavailable(reason)))
        }
        Err(CancelError::Database(error)) => Err(error.into()),
    }
}

/// Waits up to [`SETTLE_TIMEOUT`] for the end of the placement. If that is not enough, the cancel is accepted; or, if it
/// depends on how the placement ends, it is refused with `pending` for now.
async fn outcome(shop: &Shop, order: &Order, pending: Option<&str>) -> Result<Round, CancelOrderError> {
    let Some(ending) = shop.engine().wait(SagaId(order.workflow_id), SETTLE_TIMEOUT).await? else {
        return match pending {
            None => Ok(Round::Accepted),
            Some(pending) => Err(CancelOrderError::Refused(CancelRefusal::Pending(pending.into()))),
        };
    };
    match ending.status {
        Status::Running | Status::Compensating | Status::Completed | Status::Compensated => {
            Ok(Round::OrderChanged)
        }
        Status::Dead => {
            let now = orders::get(shop.pool(), order.order_id).await?.ok_or(CancelOrderError::NotFound)?;
            if now.status != OrderStatus::Pending {
                return Ok(Round::OrderChanged);
            }
            let message = format!(
                "its placement (workflow {}) is dead: an operator has to retry it",
                order.workflow_id
            );
            Err(CancelOrderError::Refused(CancelRefusal::NotCancellable { status: now.status, message }))
        }
    }
}

async fn cancel_placed(shop: &Shop, request: &CancelOrder) -> Result<Round, CancelOrderError> {
    let order_id = request.order_id;
    match shop.engine().start(CANCEL_ORDER.with(request).business_key(order_id.to_string())).await {
        Ok(Started { existing: false, .. }) => Ok(Round::Accepted),
        // The existing saga has set the order to `cancelling`, unless it is about another order.
        Ok(Started { existing: true, saga_id, .. }) => {
            let now = orders::get(shop.pool(), order_id).await?.ok_or(CancelOrderError::NotFound)?;
            match now.status {
                status @ (OrderStatus::Pending | OrderStatus::Confirmed | OrderStatus::Processing) => {
                    let message = format!(
                        "workflow {saga_id} has the key of this order's cancellation and cancelled something else; an \
                         operator has to start `{}` without a key",
                        CANCEL_ORDER.name()
                    );
                    Err(CancelOrderError::Refused(CancelRefusal::NotCancellable { status, message }))
                }
                OrderStatus::Shipped
                | OrderStatus::Delivered
                | OrderStatus::Rejected
                | OrderStatus::Cancelling
                | OrderStatus::Cancelled
                | OrderStatus::Returned => Ok(Round::Accepted),
            }
        }
        // The order was shipped or changed in the meantime.
        Err(StartError::Refused(_)) => Ok(Round::OrderChanged),
        Err(
            error @ (StartError::UnknownDefinition(_)
            | StartError::BadInput { .. }
            | StartError::InputTooLarge { .. }
            | StartError::Unavailable(_)),
        ) => Err(CancelOrderError::Refused(CancelRefusal::Unavailable(error.to_string()))),
    }
}

/// Sets the status that the compensating saga will set anyway, so that it shows at once. The saga may have been faster.
async fn mark_cancelling(pool: &PgPool, request: &CancelOrder) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    let step = OrderStatusChange {
        order_id: request.order_id,
        from: OrderStatus::Pending,
        to: OrderStatus::Cancelling,
        actor: &request.actor,
        reason: Some(&request.reason),
    };
    let moved = orders::change_statuses(&mut tx, &[step]).await?;
    let events: Vec<_> = moved.iter().map(orders::ChangedOrder::event).collect();
    outbox::append(&mut tx, &events).await?;
    tx.commit().await
}

fn too_late(status: OrderStatus) -> CancelOrderError {
    let message = match status {
        OrderStatus::Rejected => "the order was rejected: there is nothing to cancel".into(),
        OrderStatus::Shipped | OrderStatus::Delivered => {
            format!("the order is {status}: it can't be cancelled any more, but returned")
        }
        OrderStatus::Returned => "the order was returned: there is nothing to cancel".into(),
        OrderStatus::Pending
        | OrderStatus::Confirmed
        | OrderStatus::Processing
        | OrderStatus::Cancelling
        | OrderStatus::Cancelled => format!("the order is {status}"),
    };
    CancelOrderError::Refused(CancelRefusal::NotCancellable { status, message })
}
