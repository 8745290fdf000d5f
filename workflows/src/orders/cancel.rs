//! Cancels orders, whatever they are in the middle of.

use std::time::Duration;

use engine::{CancelError, CancelOutcome, SagaId, StartError, Started, Status};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::{
    read::{self, Order},
    rows::{self, Move},
    status::OrderStatus,
};
use crate::{
    audit::{self, By, Change},
    outbox,
    sagas::{
        cancel_order::{CANCEL_ORDER, CancelOrder},
        place_order::PLACE_ORDER,
    },
    shop::Shop,
    violation::{Violation, check_required_reason},
};

/// How long a caller waits for a placement that is at work right now to take notice of the cancel.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the order is looked at again when it moved between looking and acting. Its life has few moves, so this is
/// never reached unless something is wrong.
const ROUNDS: u32 = 4;

/// An order was not cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelOrderError {
    /// There is no such order.
    #[error("there is no such order")]
    NotFound,
    /// It is too late, or there is nothing to cancel.
    #[error("{message}")]
    NotCancellable {
        /// Where the order is.
        status: OrderStatus,
        /// One sentence for people.
        message: String,
    },
    /// It is noted, or on its way, and what comes of it is not known yet: ask again. The sentence is for people.
    #[error("{0}")]
    Noted(String),
    /// Somebody changed it since the caller looked.
    #[error("the order's version is {current} by now")]
    VersionMismatch {
        /// The version it has now.
        current: i64,
    },
    /// The request is wrong.
    #[error("the request is wrong")]
    Invalid(Vec<Violation>),
    /// Not now: try again.
    #[error("orders can't be cancelled now: {0}")]
    Unavailable(String),
    /// The database refused or is away.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Cancels an order: while it is being placed, that saga unwinds; afterwards a `cancel-order` saga gives its stock
/// back. Cancelling again changes nothing. The order may still be `cancelling` when this returns.
///
/// # Errors
/// See [`CancelOrderError`].
pub async fn cancel(
    shop: &Shop,
    order_id: Uuid,
    reason: &str,
    by: impl Into<By<'_>>,
) -> Result<Order, CancelOrderError> {
    cancel_version(shop, order_id, reason, by, None).await
}

/// As [`cancel`], if the order still has the version that the caller saw. That of a placed order is compared under the
/// lock that takes it out of the warehouse's hands. One that is being placed has its first version until it is confirmed
/// or closed, and only until then does its placement unwind: so it is compared by what comes of that.
///
/// # Errors
/// As [`cancel`], and [`CancelOrderError::VersionMismatch`].
pub async fn cancel_version(
    shop: &Shop,
    order_id: Uuid,
    reason: &str,
    by: impl Into<By<'_>>,
    expected_version: Option<i64>,
) -> Result<Order, CancelOrderError> {
    let by = by.into();
    if let Some(violation) = check_required_reason("/reason", reason) {
        return Err(CancelOrderError::Invalid(vec![violation]));
    }
    let input = CancelOrder { order_id, reason: reason.into(), actor: by.actor.into(), expected_version };
    let mut asked = Asked { by, is_recorded: false, is_noted: false };
    let mut status = OrderStatus::Pending;
    for _ in 0..ROUNDS {
        let order = read::get(shop.pool(), order_id).await?.ok_or(CancelOrderError::NotFound)?;
        status = order.status;
        let is_cancelled = matches!(status, OrderStatus::Cancelling | OrderStatus::Cancelled);
        let is_as_wished = is_cancelled && asked.is_noted;
        if !is_as_wished && expected_version.is_some_and(|expected| expected != order.version) {
            return Err(CancelOrderError::VersionMismatch { current: order.version });
        }
        let done = match status {
            OrderStatus::Cancelling | OrderStatus::Cancelled => return Ok(order),
            OrderStatus::Shipped | OrderStatus::Delivered | OrderStatus::Rejected => {
                return Err(too_late(status));
            }
            OrderStatus::Pending => {
                asked.record_once(shop, &order, reason).await?;
                let done = cancel_placement(shop, &order, &input, &asked.by).await?;
                asked.is_noted = true;
                done
            }
            OrderStatus::Confirmed | OrderStatus::Processing => {
                asked.record_once(shop, &order, reason).await?;
                cancel_placed(shop, &input).await?
            }
        };
        match done {
            Done::Accepted => {
                return read::get(shop.pool(), order_id).await?.ok_or(CancelOrderError::NotFound);
            }
            Done::Moved => {}
        }
    }
    let message = "the order keeps changing: look where it is, and ask again".into();
    Err(CancelOrderError::NotCancellable { status, message })
}

/// What an attempt came to.
enum Done {
    /// It will be cancelled.
    Accepted,
    /// The order is no longer where it was: look again.
    Moved,
}

/// One person's wish, over the rounds that it takes.
struct Asked<'a> {
    by: By<'a>,
    is_recorded: bool,
    /// Whether its placement was asked to unwind: that the order is cancelled now may come of that.
    is_noted: bool,
}

impl Asked<'_> {
    /// Records that somebody asked for it. What comes of it is up to sagas, whose starts are commits of their own: so it
    /// is recorded before, that no cancel is without its record. The timeline tells whether it came to be.
    async fn record_once(&mut self, shop: &Shop, order: &Order, reason: &str) -> Result<(), sqlx::Error> {
        if !std::mem::replace(&mut self.is_recorded, true) {
            let subject = order.order_id.to_string();
            let asked = Change::of("order.cancel", "order", &subject).because(Some(reason));
            let asked = asked.before(json!({"status": order.status.name()}));
            let asked = asked.after(json!({"asked": OrderStatus::Cancelled.name()}));
            audit::record(&mut *shop.pool().acquire().await?, &self.by, &[asked]).await?;
        }
        Ok(())
    }
}

async fn cancel_placement(
    shop: &Shop,
    order: &Order,
    wish: &CancelOrder,
    by: &By<'_>,
) -> Result<Done, CancelOrderError> {
    let saga_id = SagaId(order.workflow_id);
    let not_cancellable =
        |message: String| CancelOrderError::NotCancellable { status: order.status, message };
    match shop.engine().cancel(saga_id, *by, &wish.reason).await {
        Ok(CancelOutcome::Compensating) => {
            mark_cancelling(shop.pool(), wish).await?;
            Ok(Done::Accepted)
        }
        Ok(CancelOutcome::Requested) => {
            let noted = "the order is still being placed; that it is to be cancelled is noted, and is done unless the \
                         order is confirmed first";
            outcome(shop, order, noted).await
        }
        Ok(CancelOutcome::AlreadyCompensating) => {
            outcome(shop, order, "what was done to place the order is being undone already").await
        }
        Err(CancelError::PastPivot { .. }) => Ok(Done::Moved),
        Err(CancelError::Ended(status)) => match status {
            Status::Running | Status::Compensating | Status::Completed | Status::Compensated => {
                Ok(Done::Moved)
            }
            Status::Dead => Err(not_cancellable(
                "its placement was given up by an operator, who left it as it was".into(),
            )),
        },
        Err(CancelError::NotFound(_)) => {
            Err(not_cancellable(format!("the `{}` saga that places it is gone", PLACE_ORDER.name())))
        }
        Err(CancelError::Owner(reason)) => Err(CancelOrderError::Unavailable(reason)),
        Err(CancelError::Database(error)) => Err(error.into()),
    }
}

/// Waits a while for what a worker that is at it makes of the placement; `meanwhile` says how it stands if that takes
/// longer.
async fn outcome(shop: &Shop, order: &Order, meanwhile: &str) -> Result<Done, CancelOrderError> {
    let Some(ending) = shop.engine().wait(SagaId(order.workflow_id), PATIENCE).await? else {
        return Err(CancelOrderError::Noted(meanwhile.into()));
    };
    match ending.status {
        Status::Running | Status::Compensating | Status::Completed | Status::Compensated => Ok(Done::Moved),
        Status::Dead => {
            let now = read::get(shop.pool(), order.order_id).await?.ok_or(CancelOrderError::NotFound)?;
            if now.status != OrderStatus::Pending {
                return Ok(Done::Moved);
            }
            let message = format!(
                "its placement (workflow {}) is parked for an operator, who has to retry it",
                order.workflow_id
            );
            Err(CancelOrderError::NotCancellable { status: now.status, message })
        }
    }
}

async fn cancel_placed(shop: &Shop, wish: &CancelOrder) -> Result<Done, CancelOrderError> {
    let order_id = wish.order_id;
    match shop.engine().start(CANCEL_ORDER.with(wish).business_key(order_id.to_string())).await {
        Ok(Started { existing: false, .. }) => Ok(Done::Accepted),
        // Its start took the order out of the warehouse's hands, unless it is about another order.
        Ok(Started { existing: true, saga_id }) => {
            let now = read::get(shop.pool(), order_id).await?.ok_or(CancelOrderError::NotFound)?;
            match now.status {
                status @ (OrderStatus::Pending | OrderStatus::Confirmed | OrderStatus::Processing) => {
                    let message = format!(
                        "workflow {saga_id} has the key of this order's cancellation and cancelled something else; an \
                         operator has to start `{}` without a key",
                        CANCEL_ORDER.name()
                    );
                    Err(CancelOrderError::NotCancellable { status, message })
                }
                OrderStatus::Shipped
                | OrderStatus::Delivered
                | OrderStatus::Rejected
                | OrderStatus::Cancelling
                | OrderStatus::Cancelled => Ok(Done::Accepted),
            }
        }
        // It was shipped, or changed, meanwhile.
        Err(StartError::Refused(_)) => Ok(Done::Moved),
        Err(
            error @ (StartError::UnknownDefinition(_) | StartError::BadInput(_) | StartError::Unavailable(_)),
        ) => Err(CancelOrderError::Unavailable(error.to_string())),
    }
}

/// Shows at once what the unwinding saga will bring about; it may have done so already.
async fn mark_cancelling(pool: &PgPool, wish: &CancelOrder) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    let step = Move {
        order_id: wish.order_id,
        from: OrderStatus::Pending,
        to: OrderStatus::Cancelling,
        actor: &wish.actor,
        reason: Some(&wish.reason),
    };
    let moved = rows::move_orders(&mut tx, &[step]).await?;
    let events: Vec<_> = moved.iter().map(rows::Moved::event).collect();
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
    CancelOrderError::NotCancellable { status, message }
}
