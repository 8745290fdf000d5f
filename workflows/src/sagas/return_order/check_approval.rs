//! Goes on with a return that is approved, and tells the customer.

use engine::{
    Batch, Failure, NothingToUndo, Outcome, Outcomes, Shared, Signalled, StepError, TransactionStep, Tx,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::outcome::{is_rejected, no_answer, rejected};
use crate::{
    mail_templates,
    notifications::DELIVER_NOTIFICATION,
    returns::{
        self, ChangedReturn, LockedReturn, RETURN_ORDER, Reason, ReturnDecision, ReturnOrder, ReturnStatus,
        ReturnStatusChange,
    },
    sagas::business_keys::RETURN_APPROVED,
    support::outbox,
};

/// Fails the return unless it is approved: by its row, or by a signal that was sent by hand.
pub(super) struct CheckApproval;

/// The output of `check-approval`.
#[derive(Serialize, Deserialize)]
pub(super) struct Approved {}

/// What is to be done with a return that is approved.
enum Approval<'a> {
    /// Its row says so already.
    Recorded,
    /// The decision is to be written to its row.
    ByHand(&'a ReturnDecision),
}

impl TransactionStep for CheckApproval {
    const NAME: &'static str = "check-approval";
    type Input = (Shared<ReturnOrder>, Signalled<ReturnDecision>);
    type Output = Approved;
    type Undo = NothingToUndo;

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<Self::Input>,
    ) -> Result<Outcomes<Approved>, StepError> {
        let return_ids: Vec<Uuid> = batch.iter().map(|item| item.input.0.return_id).collect();
        let found = returns::lock_returns(tx, &return_ids).await?;
        let decided: Vec<Result<Approval<'_>, Failure>> = batch
            .iter()
            .map(|item| {
                let (request, decision) = &item.input;
                decide(found.get(&request.return_id), decision)
            })
            .collect();
        let changes: Vec<ReturnStatusChange<'_>> = batch
            .iter()
            .zip(&decided)
            .filter_map(|(item, decided)| match decided {
                Ok(Approval::ByHand(decision)) => Some(ReturnStatusChange {
                    return_id: item.input.0.return_id,
                    from: ReturnStatus::Requested,
                    to: ReturnStatus::Approved,
                    actor: RETURN_ORDER.name(),
                    reason: decision.reason.as_ref().map(Reason::as_str),
                }),
                Ok(Approval::Recorded) | Err(_) => None,
            })
            .collect();
        let events: Vec<_> =
            returns::change_statuses(tx, &changes).await?.iter().map(ChangedReturn::event).collect();
        outbox::append(tx, &events).await?;
        let mails = batch.iter().zip(&decided).filter_map(|(item, decided)| {
            let approved = decided.as_ref().ok().and_then(|_| found.get(&item.input.0.return_id))?;
            let mail = mail_templates::return_approved(approved);
            let key = format!("{RETURN_APPROVED}{}", approved.return_id);
            Some(DELIVER_NOTIFICATION.with(&mail).business_key(key).trace(item.trace.clone()))
        });
        tx.start(mails.collect()).await?;
        let mut decided = decided.into_iter();
        Ok(batch.decide(|_| match decided.next() {
            Some(Ok(_)) => Outcome::Done(Approved {}),
            Some(Err(failure)) => Outcome::Fail(failure),
            None => Outcome::fail("not-looked-at", "the return was not looked at"),
        }))
    }
}

/// Decides by the row, and by the signal if the row says nothing.
fn decide<'a>(
    found: Option<&LockedReturn>,
    decision: &'a Signalled<ReturnDecision>,
) -> Result<Approval<'a>, Failure> {
    let Some(found) = found else {
        return Err(Failure::new("no-such-return", "the return does not exist"));
    };
    match (found.status, decision) {
        // A parcel can arrive as soon as the return is approved, before the saga has seen that.
        (ReturnStatus::Approved | ReturnStatus::Received, _) => Ok(Approval::Recorded),
        (ReturnStatus::Rejected, _) => Err(is_rejected(found.status_reason.as_deref())),
        (ReturnStatus::Requested, Signalled::Received(decision)) if decision.approved => {
            Ok(Approval::ByHand(decision))
        }
        (ReturnStatus::Requested, Signalled::Received(decision)) => Err(rejected(decision)),
        (ReturnStatus::Requested, Signalled::TimedOut) => Err(no_answer()),
        (status @ (ReturnStatus::Completed | ReturnStatus::Expired | ReturnStatus::Cancelled), _) => {
            Err(Failure::new("return-closed", format!("the return is {status}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(status: ReturnStatus) -> LockedReturn {
        LockedReturn {
            return_id: Uuid::nil(),
            order_id: Uuid::nil(),
            workflow_id: Uuid::nil(),
            status,
            status_reason: Some("it was worn".into()),
            version: 2,
            customer_email: "ann@example.com".into(),
            items: Vec::new(),
        }
    }

    fn said(approved: bool) -> Signalled<ReturnDecision> {
        Signalled::Received(ReturnDecision { approved, reason: None })
    }

    #[test]
    fn the_row_goes_before_the_signal_and_the_signal_before_the_time() {
        let code = |status, signal: &Signalled<ReturnDecision>| {
            decide(Some(&found(status)), signal).err().map(|failure| failure.code)
        };
        for signal in [said(true), said(false), Signalled::TimedOut] {
            assert_eq!(code(ReturnStatus::Approved, &signal), None, "{signal:?}");
            assert_eq!(code(ReturnStatus::Received, &signal), None, "{signal:?}");
            assert_eq!(
                code(ReturnStatus::Rejected, &signal).as_deref(),
                Some("return-rejected"),
                "{signal:?}"
            );
            assert_eq!(
                code(ReturnStatus::Cancelled, &signal).as_deref(),
                Some("return-closed"),
                "{signal:?}"
            );
        }
        assert_eq!(code(ReturnStatus::Requested, &said(true)), None);
        assert_eq!(code(ReturnStatus::Requested, &said(false)).as_deref(), Some("return-rejected"));
        assert_eq!(code(ReturnStatus::Requested, &Signalled::TimedOut).as_deref(), Some("no-answer"));
    }
}
