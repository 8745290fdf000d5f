//! Takes back what a customer returns of a shipped order: stores the return in the commit that accepts the request,
//! waits for a decision about it and then for the parcel, restocks what is fit for sale, and tells the customer.
//!
//! ```text
//! open-return ── await-approval ── check-approval ── await-parcel ── close-return
//!  undo: close    signal            tells the         signal, pivot   forward only
//!                                   customer
//! ```
//!
//! The row of the return is the truth about it. The commands that decide about a return or receive its parcel change the
//! row and send the signal in one transaction, so the saga is woken by the signal and goes by the row.

mod check_approval;
mod close_return;
mod closing;
mod open_return;
mod outcome;

use std::time::Duration;

use engine::{Definition, Failure, GraphError, Saga};
use serde_json::json;

use self::{check_approval::CheckApproval, close_return::CloseReturn, open_return::OpenReturn};
pub(crate) use self::{
    closing::{Closed, Closing, close_rows},
    outcome::ReturnEnd,
};
use crate::{
    returns::{PARCEL_ARRIVED, RETURN_DECIDED, RETURN_ORDER, ReturnOrder},
    support::violation::Violation,
};

/// Builds the definition. A return expires if nobody decides about it within `approval_window`, or if no parcel arrives
/// within `parcel_window` after that.
pub(crate) fn saga(approval_window: Duration, parcel_window: Duration) -> Result<Definition, GraphError> {
    Saga::named(RETURN_ORDER)
        .check_input(check)
        .entry(OpenReturn)
        .signal("await-approval", RETURN_DECIDED.within(approval_window))
        .then(CheckApproval)
        .pivot_signal("await-parcel", PARCEL_ARRIVED.within(parcel_window))
        .then(CloseReturn)
        .build()
}

fn check(request: &ReturnOrder) -> Result<(), Failure> {
    let violations = request.violations();
    if violations.is_empty() { Ok(()) } else { Err(invalid(&violations)) }
}

/// The refusal of a request that is wrong.
fn invalid(violations: &[Violation]) -> Failure {
    let message = violations.first().map_or("the return is wrong", |violation| violation.message.as_str());
    Failure::new("invalid-return", message).with(json!({"errors": violations}))
}
