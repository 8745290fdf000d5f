//! Cancels orders, whatever they are in the middle of.

use std::time::Duration;

use engine::{CancelAnswer, CancelError, SagaId, StartError, Status};
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
    violation::{Violation, check_reason},
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
    let by = by.into();
    let actor = by.actor;
    let mut is_recorded = false;
    if let Some(violation) = check_reason("/reason", reason) {
        return Err(CancelOrderError::Invalid(vec![violation]));
    }
    for _ in 0..ROUNDS {
        let order = read::get(shop.pool(), order_id).await?.ok_or(CancelOrderError::NotFound)?;
        let done = match order.status {
            OrderStatus::Cancelling | OrderStatus::Cancelled => return Ok(order),
            OrderStatus::Shipped | OrderStatus::Delivered | OrderStatus::Rejected => {
                return Err(too_late(order.status));
            }
            OrderStatus::Pending => {
                record_once(shop, &order, reason, &by, &mut is_recorded).await?;
                cancel_placement(shop, &order, reason, actor).await?
            }
            OrderStatus::Confirmed | OrderStatus::Processing => {
                record_once(shop, &order, reason, &by, &mut is_recorded).await?;
                cancel_placed(shop, order_id, reason, actor).await?
            }
        };
        match done {
            Done::Accepted => {
                return read::get(shop.pool(), order_id).await?.ok_or(CancelOrderError::NotFound);
            }
            Done::Moved => {}
        }
    }
    Err(CancelOrderError::Unavailable("the order keeps changing".into()))
}

/// What an attempt came to.
enum Done {
    /// It will be cancelled.
    Accepted,
    /// The order is no longer where it was: look again.
    Moved,
}

/// Records that somebody asked for it. What comes of it is up to sagas, whose starts are commits of their own: so it is
/// recorded before, that no cancel is without its record. The timeline tells whether it came to be.
async fn record_once(
    shop: &Shop,
    order: &Order,
    reason: &str,
    by: &By<'_>,
    is_recorded: &mut bool,
) -> Result<(), sqlx::Error> {
    if !std::mem::replace(is_recorded, true) {
        let subject = order.order_id.to_string();
        let asked = Change::of("order.cancel", "order", &subject).because(Some(reason));
        let asked = asked.before(json!({"status": order.status.name()}));
        let asked = asked.after(json!({"asked": OrderStatus::Cancelled.name()}));
        audit::record(&mut *shop.pool().acquire().await?, by, &[asked]).await?;
    }
    Ok(())
}

async fn cancel_placement(
    shop: &Shop,
    order: &Order,
    reason: &str,
    actor: &str,
) -> Result<Done, CancelOrderError> {
    let saga_id = SagaId(order.workflow_id);
    match shop.engine().cancel(saga_id, actor, reason).await {
        Ok(CancelAnswer::Unwinding) => {
            mark_cancelling(shop.pool(), order.order_id, reason, actor).await?;
            Ok(Done::Accepted)
        }
        // A worker holds it, or it unwinds for a reason of its own: its end decides.
        Ok(CancelAnswer::Requested | CancelAnswer::AlreadyUnwinding) => {
            match shop.engine().wait(saga_id, PATIENCE).await? {
                Some(_) => Ok(Done::Moved),
                None => Err(CancelOrderError::Unavailable(
                    "the order is still being placed; that it is to be cancelled is noted".into(),
                )),
            }
        }
        Err(CancelError::PastPivot { .. }) => Ok(Done::Moved),
        Err(CancelError::Ended(status)) => match status {
            Status::Running | Status::Compensating | Status::Completed | Status::Compensated => {
                Ok(Done::Moved)
            }
            Status::Dead => Err(CancelOrderError::NotCancellable {
                status: order.status,
                message: "its placement is parked for an operator, who has to retry or discard it first"
                    .into(),
            }),
        },
        Err(CancelError::NotFound(_)) => Err(CancelOrderError::NotCancellable {
            status: order.status,
            message: format!("the `{}` saga that places it is gone", PLACE_ORDER.name()),
        }),
        Err(CancelError::Database(error)) => Err(error.into()),
    }
}

async fn cancel_placed(
    shop: &Shop,
    order_id: Uuid,
    reason: &str,
    actor: &str,
) -> Result<Done, CancelOrderError> {
    let input = CancelOrder { order_id, reason: reason.into(), actor: actor.into() };
    match shop.engine().start(CANCEL_ORDER.with(&input).business_key(order_id.to_string())).await {
        Ok(_) => Ok(Done::Accepted),
        // It was shipped meanwhile.
        Err(StartError::Refused(_)) => Ok(Done::Moved),
        Err(
            error @ (StartError::UnknownDefinition(_) | StartError::BadInput(_) | StartError::Unavailable(_)),
        ) => Err(CancelOrderError::Unavailable(error.to_string())),
    }
}

/// Shows at once what the unwinding saga will bring about; it may have done so already.
async fn mark_cancelling(
    pool: &PgPool,
    order_id: Uuid,
    reason: &str,
    actor: &str,
) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    let (from, to) = (OrderStatus::Pending, OrderStatus::Cancelling);
    let moved =
        rows::move_orders(&mut tx, &[Move { order_id, from, to, actor, reason: Some(reason) }]).await?;
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
