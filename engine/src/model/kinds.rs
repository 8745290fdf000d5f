//! The kinds of steps: transaction, call, wait or choice, before or after the pivot, and with or without an undo.

use serde::{Deserialize, Serialize};
use strum::VariantArray;

/// What a step works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum StepKind {
    /// The engine's PostgreSQL only; takes effect exactly once.
    Transaction,
    /// An outside service; happens at least once.
    Call,
    /// Nothing: it waits for a time.
    Sleep,
    /// Nothing: it waits for a message, or for a time.
    Signal,
    /// Nothing: it decides which steps follow.
    Choice,
    /// Another saga, whose end it waits for.
    Child,
    /// Several sagas side by side, whose ends it waits for.
    Parallel,
    /// A saga for each of many items, whose ends it waits for.
    ForEach,
}

impl StepKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether a step of this kind only waits.
    pub fn is_wait(self) -> bool {
        match self {
            Self::Sleep | Self::Signal => true,
            Self::Transaction | Self::Call | Self::Choice | Self::Child | Self::Parallel | Self::ForEach => {
                false
            }
        }
    }

    /// Whether a step of this kind runs an action of its own. The others are waits, choices and those with children.
    pub fn has_action(self) -> bool {
        match self {
            Self::Transaction | Self::Call => true,
            Self::Sleep | Self::Signal | Self::Choice | Self::Child | Self::Parallel | Self::ForEach => false,
        }
    }

    /// Whether a step of this kind has children.
    pub fn has_children(self) -> bool {
        match self {
            Self::Child | Self::Parallel | Self::ForEach => true,
            Self::Transaction | Self::Call | Self::Sleep | Self::Signal | Self::Choice => false,
        }
    }
}

/// Where a step is relative to the pivot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Placement {
    /// Before the pivot: a failure compensates.
    BeforePivot,
    /// The pivot, the point of no return.
    Pivot,
    /// After the pivot: the saga only goes forward.
    AfterPivot,
}

impl Placement {
    /// All placements, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Whether a step has an undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum UndoKind {
    /// The step has an undo.
    #[serde(rename = "undone")]
    #[strum(serialize = "undone")]
    HasUndo,
    /// The step leaves nothing that would need an undo.
    NothingToUndo,
    /// The step is the pivot or after it, and is never undone.
    ForwardOnly,
}

impl UndoKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
