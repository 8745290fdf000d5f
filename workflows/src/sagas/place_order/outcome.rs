//! The end of an order that could not be placed, by the cause of the compensation: pure functions.

use engine::{Cause, Failure};
use serde_json::json;
use uuid::Uuid;

use crate::{
    inventory::Shortage,
    mail_templates,
    notifications::DeliverNotification,
    orders::{ChangedOrder, OrderStatus, OrderStatusChange, PLACE_ORDER},
    sagas::business_keys::{ORDER_CANCELLED, ORDER_REJECTED},
};

/// How one order ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PlacementEnd {
    pub(crate) order_id: Uuid,
    end: End,
    actor: String,
    reason: String,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Rejected { short: Vec<Shortage> },
    Cancelled,
}

impl PlacementEnd {
    pub(crate) fn of(order_id: Uuid, cause: &Cause) -> Self {
        let rejected = |reason: String, short| Self {
            order_id,
            end: End::Rejected { short },
            actor: PLACE_ORDER.name().into(),
            reason,
        };
        match cause {
            // Internal errors are for the operator, who finds them in the saga's history.
            Cause::Failed { failure, .. } if failure.is_of_the_engine() => {
                rejected("the order could not be placed for technical reasons".into(), Vec::new())
            }
            Cause::Failed { failure, .. } => rejected(failure.message.clone(), short_lines(failure)),
            Cause::DeadlinePassed => rejected("reservation expired".into(), Vec::new()),
            // What became of the saga that started it is the operator's, and so is what only a newer version knows.
            Cause::Parent { .. } | Cause::Other(_) => {
                rejected("the order could not be placed for technical reasons".into(), Vec::new())
            }
            // The operator's note is not for the customer either.
            Cause::Cancelled { actor, .. } if cause.is_given_up() => Self {
                order_id,
                end: End::Cancelled,
                actor: actor.clone(),
                reason: "the order could not be placed for technical reasons".into(),
            },
            Cause::Cancelled { actor, reason, .. } => {
                Self { order_id, end: End::Cancelled, actor: actor.clone(), reason: reason.clone() }
            }
        }
    }

    /// The change before the last one, if there are two. The command that cancelled the order may have made it already.
    pub(crate) fn first_change(&self) -> Option<OrderStatusChange<'_>> {
        match self.end {
            End::Rejected { .. } => None,
            End::Cancelled => Some(self.change(OrderStatus::Pending, OrderStatus::Cancelling)),
        }
    }

    /// The last change of the order's status.
    pub(crate) fn final_change(&self) -> OrderStatusChange<'_> {
        match self.end {
            End::Rejected { .. } => self.change(OrderStatus::Pending, OrderStatus::Rejected),
            End::Cancelled => self.change(OrderStatus::Cancelling, OrderStatus::Cancelled),
        }
    }

    /// The mail to the customer, with the business key that makes sure it is sent once.
    pub(crate) fn mail(&self, order: &ChangedOrder) -> (String, DeliverNotification) {
        match &self.end {
            End::Rejected { short } => {
                (format!("{ORDER_REJECTED}{}", self.order_id), mail_templates::rejected(order, short))
            }
            End::Cancelled => {
                (format!("{ORDER_CANCELLED}{}", self.order_id), mail_templates::cancelled(order))
            }
        }
    }

    fn change(&self, from: OrderStatus, to: OrderStatus) -> OrderStatusChange<'_> {
        OrderStatusChange {
            order_id: self.order_id,
            from,
            to,
            actor: &self.actor,
            reason: Some(&self.reason),
        }
    }
}

pub(crate) fn insufficient(short: &[Shortage]) -> Failure {
    let lines: Vec<String> = short
        .iter()
        .map(|Shortage { sku, requested, available }| {
            format!("{sku}: {requested} requested, {available} available")
        })
        .collect();
    Failure::new("insufficient-stock", format!("not enough stock ({})", lines.join("; ")))
        .with(json!({"short": short}))
}

/// The short items of a failure.
fn short_lines(failure: &Failure) -> Vec<Shortage> {
    // Other failures have other details, without short items.
    failure
        .details
        .get("short")
        .and_then(|short| serde_json::from_value(short.clone()).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use engine::CancelOrigin;

    use super::*;

    fn moves(end: &PlacementEnd) -> Vec<(OrderStatus, OrderStatus)> {
        end.first_change().into_iter().chain([end.final_change()]).map(|one| (one.from, one.to)).collect()
    }

    #[test]
    fn a_failed_placement_is_rejected_with_the_short_lines() {
        let short = vec![Shortage { sku: "TEA-1".into(), requested: 5, available: 2 }];
        let cause = Cause::Failed { step: "reserve-stock".into(), failure: insufficient(&short) };
        let end = PlacementEnd::of(Uuid::nil(), &cause);
        assert_eq!(moves(&end), [(OrderStatus::Pending, OrderStatus::Rejected)]);
        assert_eq!(end.reason, "not enough stock (TEA-1: 5 requested, 2 available)");
        assert_eq!(end.end, End::Rejected { short });
    }

    #[test]
    fn the_customer_does_not_see_why_the_engine_gave_up() {
        for code in [Failure::ATTEMPTS_EXHAUSTED, Failure::OUTPUT_TOO_LARGE, Failure::POSTPONED_TOO_LONG] {
            let failure = Failure::new(code, "gave up: a secret of ours");
            let end = PlacementEnd::of(Uuid::nil(), &Cause::Failed { step: "confirm-order".into(), failure });
            assert_eq!(end.reason, "the order could not be placed for technical reasons", "{code}");
        }
    }

    #[test]
    fn a_cancelled_placement_goes_through_cancelling() {
        let cause = Cause::Cancelled {
            actor: "ada".into(),
            reason: "changed my mind".into(),
            origin: CancelOrigin::Requested,
        };
        let end = PlacementEnd::of(Uuid::nil(), &cause);
        assert_eq!(
            moves(&end),
            [
                (OrderStatus::Pending, OrderStatus::Cancelling),
                (OrderStatus::Cancelling, OrderStatus::Cancelled)
            ]
        );
        assert_eq!((end.actor.as_str(), end.reason.as_str()), ("ada", "changed my mind"));
    }

    #[test]
    fn the_customer_does_not_see_an_operators_note_on_a_placement_given_up() {
        for origin in [CancelOrigin::Discarded, CancelOrigin::Expired] {
            let reason = "the customer is a fraud".into();
            let cause = Cause::Cancelled { actor: "ops".into(), reason, origin };
            let end = PlacementEnd::of(Uuid::nil(), &cause);
            assert_eq!(end.reason, "the order could not be placed for technical reasons");
            assert_eq!(moves(&end).last(), Some(&(OrderStatus::Cancelling, OrderStatus::Cancelled)));
        }
    }

    #[test]
    fn the_mail_has_the_customers_own_reason_whatever_it_begins_with() {
        for said in ["expired: voucher", "discarded: x"] {
            let (actor, reason) = ("ada".into(), said.into());
            let cause = Cause::Cancelled { actor, reason, origin: CancelOrigin::Requested };
            assert_eq!(PlacementEnd::of(Uuid::nil(), &cause).reason, said);
        }
    }

    #[test]
    fn every_move_is_legal() {
        let causes = [
            Cause::DeadlinePassed,
            Cause::Failed { step: "confirm-order".into(), failure: Failure::new("attempts-exhausted", "no") },
            Cause::Cancelled { actor: "ada".into(), reason: "no".into(), origin: CancelOrigin::Requested },
        ];
        for cause in causes {
            for (from, to) in moves(&PlacementEnd::of(Uuid::nil(), &cause)) {
                assert!(from.next().contains(&to), "{from} to {to}");
            }
        }
    }
}
