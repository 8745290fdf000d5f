//! Types of reservations.

use std::collections::BTreeMap;

use sqlx_macros::FromRow;
use uuid::Uuid;

use super::{levels::Shortage, low_stock::LowStock, movement::MovementKind};

/// The quantities that one order wants to reserve, summed per SKU.
#[derive(Debug)]
pub(crate) struct ReservationRequest {
    pub(crate) order_id: Uuid,
    pub(crate) wanted: BTreeMap<String, i64>,
}

impl ReservationRequest {
    /// Sums an order's lines per SKU.
    pub(crate) fn new<'a>(order_id: Uuid, lines: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        let mut wanted = BTreeMap::new();
        for (sku, quantity) in lines {
            *wanted.entry(sku.to_owned()).or_insert(0) += quantity;
        }
        Self { order_id, wanted }
    }
}

/// The results of a batch of requests.
#[derive(Debug)]
pub(crate) struct Reservations {
    /// For each request, in their order: reserved, or the SKUs that are short.
    pub(crate) results: Vec<Result<(), Vec<Shortage>>>,
    /// The products whose stock fell to its threshold by these reservations.
    pub(crate) low: Vec<LowStock>,
}

/// How a reservation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum ReservationEnd {
    /// The stock is available for other orders again.
    Released,
    /// The stock was shipped.
    Consumed,
}

impl ReservationEnd {
    /// The stored name of the reservation's new state.
    pub(crate) fn state(self) -> &'static str {
        self.into()
    }

    pub(crate) fn kind(self) -> MovementKind {
        match self {
            Self::Released => MovementKind::Release,
            Self::Consumed => MovementKind::Ship,
        }
    }
}

#[derive(Debug, FromRow)]
pub(crate) struct HeldRow {
    pub(crate) order_id: Uuid,
    pub(crate) sku: String,
    pub(crate) quantity: i64,
}
