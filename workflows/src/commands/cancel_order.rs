//! Cancels orders, whatever they are in the middle of.

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

/// How long a caller waits for a placement that is at work right now to take notice of the cancel.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the order is looked at again when it moved between looking and acting. Its life has few moves, so this is
/// never reached unless something is wrong.
const MAX_ROUNDS: u32 = 4;

/// An order can't be cancelled, or not now.
#[derive(Debug, thiserror::Error)]
pub enum CancelRefusal {
    /// It is too late, or there is nothing to cancel.
    #[error("{message}")]
    NotCancellable {
        /// The status of the order.
        status: OrderStatus,
        /// One sentence for people.
        message: String,
    },
    /// The cancellation is recorded or under way, and its outcome is not known yet: ask again. The sentence is for people.
    #[error("{0}")]
    Pending(String),
    /// Not now: try again.
    #[error("orders can't be cancelled now: {0}")]
    Unavailable(String),
}

/// An order was not cancelled.
pub type CancelOrderError = ChangeError<CancelRefusal>;

/// Cancels an order: while it is being placed, that saga unwinds; afterwards a `cancel-order` saga gives its stock
/// back. Cancelling again changes nothing. The order may still be `cancelling` when this returns.
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

/// As [`cancel_order`], if the order still has the version that the caller saw. That of a placed order is compared under the
/// lock that takes it out of the warehouse's hands. One that is being placed has its first version until it is confirmed
/// or closed, and only until then does its placement unwind: so it is compared by what comes of that.
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
            OrderStatus::Shipped | OrderStatus::Delivered | OrderStatus::Rejected => {
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

/// What an attempt came to.
enum Round {
    /// It will be cancelled.
    Accepted,
    /// The order is no longer where it was: look again.
    OrderChanged,
}

/// One person's request, over the rounds that it takes.
struct CancelRequest<'a> {
    by: AuditActor<'a>,
    is_recorded: bool,
    /// Whether its placement was asked to compensate: that the order is cancelled now may come of that.
    is_placement_cancelled: bool,
}

impl CancelRequest<'_> {
    /// Records that somebody asked for it. What comes of it is up to sagas, whose starts are commits of their own: so it
    /// is recorded before, that no cancel is without its record. The timeline tells whether it came to be.
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
    match shop.engine().cancel(saga_id, *by, &request.reason).await {
        Ok(CancelOutcome::Compensating) => {
            mark_cancelling(shop.pool(), request).await?;
            Ok(Round::Accepted)
        }
        Ok(CancelOutcome::Requested) => {
            let noted = "the order is still being placed; that it is to be cancelled is noted, and is done unless the \
                         order is confirmed first";
            outcome(shop, order, noted).await
        }
        Ok(CancelOutcome::AlreadyCompensating) => {
            outcome(shop, order, "what was done to place the order is being undone already").await
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
        Err(CancelError::Owner(reason)) => Err(CancelOrderError::Refused(CancelRefusal::Unavailable(reason))),
        Err(CancelError::Database(error)) => Err(error.into()),
    }
}

/// Waits a while for what a worker that is at it makes of the placement; `meanwhile` says how it stands if that takes
/// longer.
async fn outcome(shop: &Shop, order: &Order, meanwhile: &str) -> Result<Round, CancelOrderError> {
    let Some(ending) = shop.engine().wait(SagaId(order.workflow_id), SETTLE_TIMEOUT).await? else {
        return Err(CancelOrderError::Refused(CancelRefusal::Pending(meanwhile.into())));
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
                "its placement (workflow {}) is parked for an operator, who has to retry it",
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
        // Its start took the order out of the warehouse's hands, unless it is about another order.
        Ok(Started { existing: true, saga_id }) => {
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
                | OrderStatus::Cancelled => Ok(Round::Accepted),
            }
        }
        // It was shipped, or changed, meanwhile.
        Err(StartError::Refused(_)) => Ok(Round::OrderChanged),
        Err(
            error @ (StartError::UnknownDefinition(_) | StartError::BadInput(_) | StartError::Unavailable(_)),
        ) => Err(CancelOrderError::Refused(CancelRefusal::Unavailable(error.to_string()))),
    }
}

/// Shows at once what the unwinding saga will bring about; it may have done so already.
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
            format!("the order is {status}: it can't be cancelled any more")
        }
        OrderStatus::Pending
        | OrderStatus::Confirmed
        | OrderStatus::Processing
        | OrderStatus::Cancelling
        | OrderStatus::Cancelled => format!("the order is {status}"),
    };
    CancelOrderError::Refused(CancelRefusal::NotCancellable { status, message })
}
