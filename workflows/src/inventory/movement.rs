//! Movements of stock: the entries of the ledger.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx_macros::FromRow;
use strum::VariantArray;
use uuid::Uuid;

use crate::support::text_column::text_column;

/// Why a level changed.
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
    /// Somebody counted.
    Set,
    /// Somebody found, lost or bought some.
    Adjust,
    /// An order holds some from now on.
    Reserve,
    /// An order gave back what it held.
    Release,
    /// What an order held has left.
    Ship,
}

impl MovementKind {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The stored name.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_kind(text: &str) -> String {
    format!("`{text}` is no kind of movement")
}

/// One change of one level.
#[derive(Debug)]
pub(crate) struct Movement<'a> {
    pub(crate) sku: &'a str,
    pub(crate) delta_on_hand: i64,
    pub(crate) delta_reserved: i64,
    pub(crate) order_id: Option<Uuid>,
}

/// One change of a product's levels.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct LedgerEntry {
    /// Its number; grows with time within a product.
    pub movement_id: i64,
    /// Why it changed.
    pub kind: MovementKind,
    /// How many more there are.
    pub delta_on_hand: i64,
    /// How many more orders hold.
    pub delta_reserved: i64,
    /// The order that reserved, gave back or left.
    pub order_id: Option<Uuid>,
    /// Who, or which saga, did it.
    pub actor: String,
    /// Why, where a person did it.
    pub reason: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

text_column!(MovementKind);
