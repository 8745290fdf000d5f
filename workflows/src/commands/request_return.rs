//! Requests returns: starts the `return-order` saga, which checks them.

use engine::StartError;

use super::shop::Shop;
use crate::{
    returns::{self, OrderReturn, RETURN_ORDER, ReturnOrder},
    support::{
        audit::{AuditActor, StartActor},
        violation::{self, Violation},
    },
};

/// A return was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RequestReturnError {
    /// There is no such order.
    #[error("the order does not exist")]
    NoSuchOrder,
    /// The request is invalid, or such units of the order can't be returned.
    #[error("the request is wrong")]
    Invalid(Vec<Violation>),
    /// The order has not left, or nothing of it can come back. The sentence is for people.
    #[error("{0}")]
    NotReturnable(String),
    /// Returns can't be requested now: the caller should try again with the same return id.
    #[error("returns can't be requested now: {0}")]
    Unavailable(String),
    /// The database refused or can't be reached; the return may have been accepted.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Requests the return of a shipped order, or of part of it, and returns it. It is durable when this returns, and the
/// commit that accepts it has the record of the audit log. The same return id again returns the existing return.
///
/// # Errors
/// See [`RequestReturnError`].
///
/// # Cancel safety
/// A dropped call may have requested the return; its id finds it.
pub async fn request_return(
    shop: &Shop,
    request: ReturnOrder,
    by: impl Into<AuditActor<'_>>,
    trace: Option<String>,
) -> Result<OrderReturn, RequestReturnError> {
    let by = by.into();
    let return_id = request.return_id;
    let request = ReturnOrder { actor: Some(by.actor.to_owned()), ..request };
    let saga = RETURN_ORDER.with(&request).business_key(return_id.to_string());
    shop.engine().start(saga.trace(trace).context(StartActor::from(by))).await.map_err(refused)?;
    let accepted = returns::get(shop.pool(), return_id).await?;
    accepted.ok_or_else(|| RequestReturnError::Database(sqlx::Error::RowNotFound))
}

fn refused(error: StartError) -> RequestReturnError {
    match error {
        StartError::Refused(failure) if failure.code == "no-such-order" => RequestReturnError::NoSuchOrder,
        StartError::Refused(failure) if failure.code == "not-returnable" => {
            RequestReturnError::NotReturnable(failure.message)
        }
        StartError::Refused(failure) => RequestReturnError::Invalid(violation::of_refusal(failure)),
        StartError::BadInput { pointer, reason } => {
            RequestReturnError::Invalid(vec![Violation::new(pointer, "bad-input", reason)])
        }
        error @ StartError::InputTooLarge { .. } => {
            RequestReturnError::Invalid(vec![Violation::new("", "too-large", error.to_string())])
        }
        StartError::UnknownDefinition(name) => {
            RequestReturnError::Unavailable(format!("no saga is named `{name}` here"))
        }
        StartError::Unavailable(reason) => RequestReturnError::Unavailable(reason),
    }
}
