//! Movements of stock: the entries of the ledger.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::support::text_column::text_column;

/// Why a level changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    pub const ALL: [Self; 6] =
        [Self::Initial, Self::Set, Self::Adjust, Self::Reserve, Self::Release, Self::Ship];

    /// The stored name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Set => "set",
            Self::Adjust => "adjust",
            Self::Reserve => "reserve",
            Self::Release => "release",
            Self::Ship => "ship",
        }
    }
}

impl TryFrom<String> for MovementKind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("`{text}` is no kind of movement"))
    }
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
