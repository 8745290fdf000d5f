//! The statuses of an order, and the changes between them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::support::{bounded_list::by_status::StatusPath, text_column::text_column};

/// The status of an order.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = unknown_status)]
pub enum OrderStatus {
    /// Accepted; the order is being placed.
    Pending,
    /// Its stock is reserved, and it will be delivered.
    Confirmed,
    /// It is being packed.
    Processing,
    /// It has left the warehouse, and its stock is consumed.
    Shipped,
    /// It has arrived.
    Delivered,
    /// It could not be placed; no stock is reserved.
    Rejected,
    /// It is being cancelled.
    Cancelling,
    /// It was cancelled; no stock is reserved.
    Cancelled,
    /// Every unit of it was returned.
    Returned,
}

impl OrderStatus {
    /// All statuses, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name under which it is stored.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The statuses that can follow.
    pub fn next(self) -> &'static [Self] {
        match self {
            Self::Pending => &[Self::Confirmed, Self::Rejected, Self::Cancelling],
            Self::Confirmed => &[Self::Processing, Self::Cancelling],
            Self::Processing => &[Self::Shipped, Self::Cancelling],
            Self::Shipped => &[Self::Delivered, Self::Returned],
            Self::Delivered => &[Self::Returned],
            Self::Cancelling => &[Self::Cancelled],
            Self::Rejected | Self::Cancelled | Self::Returned => &[],
        }
    }

    /// Whether an order in this status can be returned, or part of it.
    pub(crate) fn is_returnable(self) -> bool {
        self.next().contains(&Self::Returned)
    }

    /// The statuses that a person can set. Sagas set the others when they place, cancel or take back an order.
    pub fn next_by_hand(self) -> &'static [Self] {
        match self {
            Self::Confirmed => &[Self::Processing],
            Self::Processing => &[Self::Shipped],
            Self::Shipped => &[Self::Delivered],
            Self::Pending
            | Self::Delivered
            | Self::Rejected
            | Self::Cancelling
            | Self::Cancelled
            | Self::Returned => &[],
        }
    }

    /// What leads to the orders in this status.
    pub(crate) fn path(self) -> StatusPath {
        match self {
            Self::Pending => StatusPath::Moving,
            Self::Confirmed => StatusPath::RecordedLater,
            Self::Processing
            | Self::Shipped
            | Self::Delivered
            | Self::Rejected
            | Self::Cancelling
            | Self::Cancelled
            | Self::Returned => StatusPath::Recorded,
        }
    }
}

fn unknown_status(text: &str) -> String {
    format!("`{text}` is no order status")
}

text_column!(OrderStatus);

#[cfg(test)]
mod tests {
    use super::OrderStatus as S;

    #[test]
    fn the_transitions_are_those_of_the_specification() {
        let legal = [
            (S::Pending, S::Confirmed),
            (S::Confirmed, S::Processing),
            (S::Processing, S::Shipped),
            (S::Shipped, S::Delivered),
            (S::Pending, S::Rejected),
            (S::Pending, S::Cancelling),
            (S::Confirmed, S::Cancelling),
            (S::Processing, S::Cancelling),
            (S::Cancelling, S::Cancelled),
            (S::Shipped, S::Returned),
            (S::Delivered, S::Returned),
        ];
        for &from in S::ALL {
            for &to in S::ALL {
                assert_eq!(from.next().contains(&to), legal.contains(&(from, to)), "{from} to {to}");
            }
        }
    }

    #[test]
    fn a_person_can_set_only_legal_statuses_and_neither_confirm_nor_cancel_nor_take_back() {
        for &from in S::ALL {
            for to in from.next_by_hand() {
                assert!(from.next().contains(to), "{from} to {to}");
                assert!(
                    !matches!(to, S::Confirmed | S::Rejected | S::Cancelling | S::Cancelled | S::Returned),
                    "{from} to {to}"
                );
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        for &status in S::ALL {
            assert_eq!(status.name().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
        }
        assert!("done".parse::<S>().is_err());
    }
}
