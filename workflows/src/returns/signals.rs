//! The signals for which a return waits. The commands of the shop write what they say to the return in the same
//! transaction, so the return shows it at once, and the saga only follows; a signal that an operator sends by hand is
//! carried out by the saga, in its own name: the audit log of the engine says who sent it.

use engine::SignalName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::bounds::{ORDERED_SKU, REASON, RECEIVED_QUANTITY};

/// The signal for the saga of a return: a person has decided about it.
pub const RETURN_DECIDED: SignalName<ReturnDecision> = SignalName::new("return-decided");

/// The signal for the saga of a return: the parcel is here.
pub const PARCEL_ARRIVED: SignalName<Parcel> = SignalName::new("parcel-arrived");

/// The decision about a return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnDecision {
    /// Whether the customer may send it.
    pub approved: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// A parcel that has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parcel {
    /// What was in it; if nothing is listed, all that was announced, fit for sale.
    #[serde(default)]
    pub items: Vec<ReceivedItem>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// A reason that is fit for a timeline and a mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Reason(#[schemars(length(max = REASON.max))] String);

impl Reason {
    /// The reason as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Reason {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match REASON.violation("", &text) {
            Some(violation) => Err(format!("the reason {}", violation.message)),
            None => Ok(Self(text)),
        }
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.0
    }
}

/// Units of one product that were in a parcel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReceivedItem {
    /// The SKU, as in the return.
    #[schemars(length(min = ORDERED_SKU.min, max = ORDERED_SKU.max))]
    #[cfg_attr(feature = "openapi", schema(format = "ordered-sku", example = "TEA-1"))]
    pub sku: String,
    /// How many were in the parcel.
    #[schemars(range(min = RECEIVED_QUANTITY.min, max = RECEIVED_QUANTITY.max))]
    #[cfg_attr(feature = "openapi", schema(format = "received-quantity", example = 2))]
    pub quantity: i64,
    /// How many of them are fit for sale and go back to stock; all, if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = RECEIVED_QUANTITY.min, max = RECEIVED_QUANTITY.max))]
    #[cfg_attr(feature = "openapi", schema(format = "received-quantity", example = 1))]
    pub fit_for_sale: Option<i64>,
}
