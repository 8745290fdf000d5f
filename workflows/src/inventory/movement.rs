//! Stock movements: the entries of the ledger.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx_macros::FromRow;
use strum::VariantArray;
use uuid::Uuid;

use crate::support::text_column::text_column;

/// The cause of a change of stock.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = unknown_kind)]
pub enum MovementKind {
    /// The product was created.
    Initial,
    /// A person set the stock on hand to a counted number.
    Set,
    /// A person added to or subtracted from the stock on hand.
    Adjust,
    /// An order reserved stock.
    Reserve,
    /// An order released reserved stock.
    Release,
    /// The reserved stock of an order was shipped.
    Ship,
    /// Units of an order came back and are fit for sale.
    Return,
}

impl MovementKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name under which it is stored.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_kind(text: &str) -> String {
    format!("`{text}` is no kind of movement")
}

/// One change of one stock level.
#[derive(Debug)]
pub(crate) struct Movement<'a> {
    pub(crate) sku: &'a str,
    pub(crate) delta_on_hand: i64,
    pub(crate) delta_reserved: i64,
    pub(crate) order_id: Option<Uuid>,
}

/// One entry of a product's ledger.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct LedgerEntry {
    /// The number of the entry; it grows with time within a product.
    pub movement_id: i64,
    /// The cause of the change.
    pub kind: MovementKind,
    /// The change of the stock on hand.
    pub delta_on_hand: i64,
    /// The change of the reserved stock.
    pub delta_reserved: i64,
    /// The order that reserved, released or shipped the stock, or of which it came back.
    pub order_id: Option<Uuid>,
    /// The person or saga that made the change.
    pub actor: String,
    /// The reason that a person gave.
    pub reason: Option<String>,
    /// When the entry was made.
    pub at: DateTime<Utc>,
}

text_column!(MovementKind);
