//! The products and orders of the demo, and how each order must end.

use uuid::Uuid;

/// Products with enough stock for every order.
pub(super) const PLENTIFUL: [&str; 3] = ["DEMO-TEA", "DEMO-MUG", "DEMO-POT"];
/// The stock of each plentiful product.
pub(super) const PLENTY: i64 = 100_000;
/// A product with less stock than is ordered.
pub(super) const SCARCE: &str = "DEMO-LAST";
/// The stock of the scarce product.
pub(super) const SCARCE_STOCK: i64 = 20;

/// What an order asks for, which decides how it must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderKind {
    /// Products with enough stock.
    Ordinary,
    /// Products with enough stock, but the order is cancelled at once.
    Withdrawn,
    /// The scarce product.
    Scarce,
    /// More than the stock.
    TooMuch,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OrderEnd {
    Confirmed,
    Rejected,
    Cancelled,
    /// A status that an order must not have at the end.
    Unsettled(String),
}

impl OrderEnd {
    pub(super) fn of(status: &str) -> Self {
        match status {
            "confirmed" => Self::Confirmed,
            "rejected" => Self::Rejected,
            "cancelled" => Self::Cancelled,
            other => Self::Unsettled(other.to_owned()),
        }
    }
}

/// An order that the API acknowledged.
#[derive(Clone, Debug)]
pub(super) struct PlacedOrder {
    pub(super) order_id: Uuid,
    pub(super) email: String,
    pub(super) kind: OrderKind,
}
