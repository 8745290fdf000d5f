//! Closes the return: restocks what has arrived, or lets the return expire.

use engine::{Batch, ForwardOnly, Outcome, Outcomes, Shared, Signalled, StepError, TransactionStep, Tx};
use serde::{Deserialize, Serialize};

use super::{
    closing::{Closing, close},
    outcome::ReturnEnd,
};
use crate::returns::{Parcel, ReturnOrder, ReturnStatus};

/// Restocks what is fit for sale of the parcel, and tells the customer; without a parcel the return expires.
pub(super) struct CloseReturn;

/// The output of `close-return`.
#[derive(Serialize, Deserialize)]
pub(super) struct Closed {
    status: ReturnStatus,
}

impl TransactionStep for CloseReturn {
    const NAME: &'static str = "close-return";
    type Input = (Shared<ReturnOrder>, Signalled<Parcel>);
    type Output = Closed;
    type Undo = ForwardOnly;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<Closed>, StepError> {
        let end = ReturnEnd::no_parcel();
        let closings: Vec<Closing<'_>> = batch
            .iter()
            .map(|item| {
                let (request, parcel) = &item.input;
                let parcel = match parcel {
                    Signalled::Received(parcel) => Some(parcel),
                    Signalled::TimedOut => None,
                };
                Closing {
                    return_id: request.return_id,
                    order_id: request.order_id,
                    parcel,
                    end: &end,
                    trace: item.trace.clone(),
                }
            })
            .collect();
        let mut closed = close(tx, &closings).await?.into_iter();
        Ok(batch.decide(|_| match closed.next() {
            Some(Ok(status)) => Outcome::Done(Closed { status }),
            Some(Err(failure)) => Outcome::Fail(failure),
            None => Outcome::fail("not-looked-at", "the return was not looked at"),
        }))
    }
}
