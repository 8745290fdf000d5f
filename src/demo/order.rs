//! The products and orders of the demo: what is ordered, and how each order has to end.

use uuid::Uuid;

/// Products with enough stock for every order.
pub(super) const PLENTIFUL: [&str; 3] = ["DEMO-TEA", "DEMO-MUG", "DEMO-POT"];
/// Their stock.
pub(super) const PLENTY: i64 = 100_000;
/// A product with less stock than is ordered.
pub(super) const SCARCE: &str = "DEMO-LAST";
/// Its stock.
pub(super) const SCARCE_STOCK: i64 = 20;

/// What an order asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderKind {
    /// Products with enough stock.
    Ordinary,
    /// The same, but cancelled at once.
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
    /// Any status that a settled order must not have.
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
