//! The statuses of a return, and the changes between them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::support::text_column::text_column;

/// The status of a return.
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
pub enum ReturnStatus {
    /// A person has to decide about it.
    Requested,
    /// The customer may send it; the parcel is awaited.
    Approved,
    /// The parcel is here; what is fit for sale is being restocked.
    Received,
    /// What is fit for sale is restocked, and the customer was told.
    Completed,
    /// It was not allowed.
    Rejected,
    /// Nobody decided about it in time, or no parcel came.
    Expired,
    /// It was called off.
    Cancelled,
}

impl ReturnStatus {
    /// All statuses, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name under which it is stored.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The statuses that can follow.
    pub fn next(self) -> &'static [Self] {
        match self {
            Self::Requested => &[Self::Approved, Self::Rejected, Self::Expired, Self::Cancelled],
            Self::Approved => &[Self::Received, Self::Expired, Self::Cancelled],
            Self::Received => &[Self::Completed],
            Self::Completed | Self::Rejected | Self::Expired | Self::Cancelled => &[],
        }
    }
}

fn unknown_status(text: &str) -> String {
    format!("`{text}` is no status of a return")
}

text_column!(ReturnStatus);

#[cfg(test)]
mod tests {
    use super::ReturnStatus as S;

    #[test]
    fn a_parcel_that_is_here_is_never_forgotten() {
        for &from in S::ALL {
            let leads_on = !from.next().is_empty();
            assert_eq!(leads_on, matches!(from, S::Requested | S::Approved | S::Received), "{from}");
        }
        assert_eq!(S::Received.next(), [S::Completed]);
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
