//! How a return ends without its parcel, by the cause of the compensation: pure functions.

use engine::{Cause, Failure};

use crate::returns::{RETURN_ORDER, Reason, ReturnDecision, ReturnStatus};

/// The end of a return, as its timeline and the customer are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReturnEnd {
    pub(crate) status: ReturnStatus,
    pub(crate) actor: String,
    pub(crate) reason: String,
}

const REJECTED: &str = "return-rejected";
const NO_ANSWER: &str = "no-answer";
const NO_REASON: &str = "no reason was given";
const TECHNICAL: &str = "it could not be taken back for technical reasons; please contact us";

impl ReturnEnd {
    /// The end by the cause of a compensation.
    pub(super) fn of(cause: &Cause) -> Self {
        let own =
            |status, reason: &str| Self { status, actor: RETURN_ORDER.name().into(), reason: reason.into() };
        match cause {
            Cause::Failed { failure, .. } if failure.code == REJECTED => Self {
                status: ReturnStatus::Rejected,
                actor: RETURN_ORDER.name().into(),
                reason: failure.message.clone(),
            },
            Cause::Failed { failure, .. } if failure.code == NO_ANSWER => {
                own(ReturnStatus::Expired, &failure.message)
            }
            Cause::DeadlinePassed => own(ReturnStatus::Expired, "it took too long"),
            // What went wrong is the operator's, and so is an operator's note on a return that was given up.
            Cause::Failed { .. } | Cause::Parent { .. } | Cause::Other(_) => {
                own(ReturnStatus::Cancelled, TECHNICAL)
            }
            Cause::Cancelled { actor, .. } if cause.is_given_up() => {
                Self { actor: actor.clone(), ..own(ReturnStatus::Cancelled, TECHNICAL) }
            }
            Cause::Cancelled { actor, reason, .. } => {
                Self { status: ReturnStatus::Cancelled, actor: actor.clone(), reason: reason.clone() }
            }
        }
    }

    /// The end of an approved return whose parcel did not come.
    pub(super) fn no_parcel() -> Self {
        Self {
            status: ReturnStatus::Expired,
            actor: RETURN_ORDER.name().into(),
            reason: "the parcel did not arrive in time".into(),
        }
    }
}

/// The failure of a return that was not allowed, by a decision that the row does not hold yet.
pub(super) fn rejected(decision: &ReturnDecision) -> Failure {
    Failure::new(REJECTED, decision.reason.as_ref().map_or(NO_REASON, Reason::as_str))
}

/// The failure of a return whose row says that it was not allowed.
pub(super) fn is_rejected(reason: Option<&str>) -> Failure {
    Failure::new(REJECTED, reason.unwrap_or(NO_REASON))
}

/// The failure of a return about which nobody decided.
pub(super) fn no_answer() -> Failure {
    Failure::new(NO_ANSWER, "we could not decide about it in time")
}

#[cfg(test)]
mod tests {
    use engine::CancelOrigin;

    use super::*;

    fn cancelled(origin: CancelOrigin) -> Cause {
        Cause::Cancelled { actor: "ada".into(), reason: "found it again".into(), origin }
    }

    fn failed(failure: Failure) -> Cause {
        Cause::Failed { step: "check-approval".into(), failure }
    }

    #[test]
    fn a_rejection_says_why() {
        let reason = Some("it was worn".to_owned().try_into().unwrap());
        let end = ReturnEnd::of(&failed(rejected(&ReturnDecision { approved: false, reason })));
        assert_eq!((end.status, end.reason.as_str()), (ReturnStatus::Rejected, "it was worn"));
        let silent = ReturnEnd::of(&failed(rejected(&ReturnDecision { approved: false, reason: None })));
        assert_eq!(silent.reason, "no reason was given");
    }

    #[test]
    fn a_return_without_an_answer_expires() {
        assert_eq!(ReturnEnd::of(&failed(no_answer())).status, ReturnStatus::Expired);
        assert_eq!(ReturnEnd::no_parcel().status, ReturnStatus::Expired);
    }

    #[test]
    fn the_customer_sees_a_cancel_but_neither_an_error_nor_an_operators_note() {
        let end = ReturnEnd::of(&cancelled(CancelOrigin::Requested));
        assert_eq!((end.status, end.reason.as_str()), (ReturnStatus::Cancelled, "found it again"));
        for cause in [
            cancelled(CancelOrigin::Discarded),
            cancelled(CancelOrigin::Expired),
            failed(Failure::new(Failure::ATTEMPTS_EXHAUSTED, "a secret of ours")),
        ] {
            let end = ReturnEnd::of(&cause);
            assert_eq!((end.status, end.reason.as_str()), (ReturnStatus::Cancelled, TECHNICAL), "{cause:?}");
        }
    }

    #[test]
    fn every_end_can_follow_a_request() {
        let causes = [
            Cause::DeadlinePassed,
            failed(no_answer()),
            failed(is_rejected(None)),
            cancelled(CancelOrigin::Requested),
        ];
        for cause in causes {
            let end = ReturnEnd::of(&cause);
            assert!(ReturnStatus::Requested.next().contains(&end.status), "{cause:?}");
        }
    }
}
