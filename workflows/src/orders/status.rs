//! The statuses of an order and the moves between them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::support::text_column::text_column;

/// Where an order is in its life.
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
    /// It is accepted and being placed.
    Pending,
    /// Its stock is held; it will be delivered.
    Confirmed,
    /// Somebody is packing it.
    Processing,
    /// It has left; its stock with it.
    Shipped,
    /// It has arrived.
    Delivered,
    /// It could not be placed; nothing is held.
    Rejected,
    /// It is being cancelled.
    Cancelling,
    /// It was cancelled; nothing is held.
    Cancelled,
}

impl OrderStatus {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The stored name.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Every status that can come next.
    pub fn next(self) -> &'static [Self] {
        match self {
            Self::Pending => &[Self::Confirmed, Self::Rejected, Self::Cancelling],
            Self::Confirmed => &[Self::Processing, Self::Cancelling],
            Self::Processing => &[Self::Shipped, Self::Cancelling],
            Self::Shipped => &[Self::Delivered],
            Self::Cancelling => &[Self::Cancelled],
            Self::Delivered | Self::Rejected | Self::Cancelled => &[],
        }
    }

    /// The statuses that a person can set; the others come about by placing and cancelling.
    pub fn next_by_hand(self) -> &'static [Self] {
        match self {
            Self::Confirmed => &[Self::Processing],
            Self::Processing => &[Self::Shipped],
            Self::Shipped => &[Self::Delivered],
            Self::Pending | Self::Delivered | Self::Rejected | Self::Cancelling | Self::Cancelled => &[],
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
    fn the_moves_are_those_of_the_specification() {
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
        ];
        for &from in S::ALL {
            for &to in S::ALL {
                assert_eq!(from.next().contains(&to), legal.contains(&(from, to)), "{from} to {to}");
            }
        }
    }

    #[test]
    fn a_person_makes_only_moves_that_are_legal_and_neither_confirm_nor_cancel() {
        for &from in S::ALL {
            for to in from.next_by_hand() {
                assert!(from.next().contains(to), "{from} to {to}");
                assert!(
                    !matches!(to, S::Confirmed | S::Rejected | S::Cancelling | S::Cancelled),
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
