//! The signal that an order is paid, and the time that it has for that.

use std::time::Duration;

use chrono::{DateTime, Utc};
use engine::SignalName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::bounds::PAYMENT_REFERENCE;

/// The signal for the saga that places the order: it is paid.
pub const PAYMENT_RECEIVED: SignalName<Payment> = SignalName::new("payment-received");

/// The payment of an order. Who sends it says that the order is paid in full; amounts are not compared here.
///
/// `{"reference": "pay_8Fq2"}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Payment {
    /// The payment's name at the payment service; the order's timeline shows it.
    pub reference: PaymentReference,
}

/// The name of a payment at its payment service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct PaymentReference(
    #[schemars(length(min = PAYMENT_REFERENCE.min, max = PAYMENT_REFERENCE.max))] String,
);

impl PaymentReference {
    /// The reference as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PaymentReference {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match PAYMENT_REFERENCE.violation("", &text) {
            Some(violation) => Err(format!("the reference {}", violation.message)),
            None => Ok(Self(text)),
        }
    }
}

impl From<PaymentReference> for String {
    fn from(reference: PaymentReference) -> Self {
        reference.0
    }
}

/// Until when an order waits for its payment. It is decided when the order is accepted, and stored with it: another
/// setting later changes nothing for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PaymentTerms {
    /// When the customer is reminded.
    pub(crate) remind_at: DateTime<Utc>,
    /// When the order is rejected.
    pub(crate) due_at: DateTime<Utc>,
}

impl PaymentTerms {
    /// The terms of an order that is accepted now: the customer is reminded after half of the window.
    pub(crate) fn new(now: DateTime<Utc>, window: Duration) -> Self {
        Self { remind_at: now + window / 2, due_at: now + window }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_payment_is_named_by_one_line() {
        let read = |json| serde_json::from_value::<Payment>(json).map_err(|error| error.to_string());
        assert_eq!(read(json!({"reference": "pay-1"})).unwrap().reference.as_str(), "pay-1");
        for (wrong, expected) in [
            (json!({"reference": ""}), "must have 1 to 200 characters"),
            (json!({"reference": "x".repeat(201)}), "must have 1 to 200 characters"),
            (json!({"reference": "a\nb"}), "must not contain control characters"),
            (json!({"reference": " a"}), "must not begin or end with white space"),
            (json!({"reference": "a", "amount": 3}), "unknown field `amount`"),
            (json!({}), "missing field `reference`"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_reminder_comes_after_half_of_the_window() {
        let now = DateTime::UNIX_EPOCH;
        let terms = PaymentTerms::new(now, Duration::from_mins(10));
        assert_eq!((terms.remind_at - now).num_seconds(), 300);
        assert_eq!((terms.due_at - now).num_seconds(), 600);
    }
}
