//! Places orders: starts the `place-order` saga, which checks them.

use std::time::Duration;

use engine::{NewSaga, StartError};
use uuid::Uuid;

use super::shop::Shop;
use crate::{
    orders::{self, Order, PLACE_ORDER, PlaceOrder},
    support::{
        audit::{AuditActor, StartActor},
        violation::{self, Violation},
    },
};

/// An order was not placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceOrderError {
    /// The request is invalid, or an item can't be ordered.
    #[error("the request is wrong")]
    Invalid(Vec<Violation>),
    /// Orders can't be placed now: the caller should try again with the same order id.
    #[error("orders can't be placed now: {0}")]
    Unavailable(String),
    /// The database refused or can't be reached; the order may have been accepted.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Places an order and returns it in its current state. The order is durable when this returns; the call waits up to
/// `wait` for the end of its placement. The same order id again returns the existing order. The audit log has no record
/// of it, see [`place_order_as`].
///
/// # Errors
/// See [`PlaceOrderError`].
///
/// # Cancel safety
/// A dropped call may have placed the order; its id finds it.
pub async fn place_order(
    shop: &Shop,
    order: PlaceOrder,
    wait: Option<Duration>,
    trace: Option<String>,
) -> Result<Order, PlaceOrderError> {
    start(shop, order.order_id, PLACE_ORDER.with(&order).trace(trace), wait).await
}

/// As [`place_order`], for an actor whom the order's timeline and the audit log name. The commit that accepts the order
/// has its record.
///
/// # Errors
/// See [`PlaceOrderError`].
///
/// # Cancel safety
/// As [`place_order`].
pub async fn place_order_as(
    shop: &Shop,
    order: PlaceOrder,
    by: AuditActor<'_>,
    wait: Option<Duration>,
    trace: Option<String>,
) -> Result<Order, PlaceOrderError> {
    let order = PlaceOrder { actor: Some(by.actor.to_owned()), ..order };
    let saga = PLACE_ORDER.with(&order).trace(trace).context(StartActor::from(by));
    start(shop, order.order_id, saga, wait).await
}

async fn start(
    shop: &Shop,
    order_id: Uuid,
    saga: NewSaga,
    wait: Option<Duration>,
) -> Result<Order, PlaceOrderError> {
    let saga = saga.business_key(order_id.to_string());
    match wait {
        None => shop.engine().start(saga).await.map(drop),
        Some(patience) => shop.engine().start_and_wait(saga, patience).await.map(drop),
    }
    .map_err(refused)?;
    let order = orders::get(shop.pool(), order_id).await?;
    order.ok_or_else(|| PlaceOrderError::Database(sqlx::Error::RowNotFound))
}

fn refused(error: StartError) -> PlaceOrderError {
    match error {
        StartError::Refused(failure) => PlaceOrderError::Invalid(violation::of_refusal(failure)),
        StartError::BadInput { pointer, reason } => {
            PlaceOrderError::Invalid(vec![Violation::new(pointer, "bad-input", reason)])
        }
        error @ StartError::InputTooLarge { .. } => {
            PlaceOrderError::Invalid(vec![Violation::new("", "too-large", error.to_string())])
        }
        StartError::UnknownDefinition(name) => {
            PlaceOrderError::Unavailable(format!("no saga is named `{name}` here"))
        }
        StartError::Unavailable(reason) => PlaceOrderError::Unavailable(reason),
    }
}
