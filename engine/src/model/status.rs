//! The status of a saga, and the two sides of a step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::VariantArray;

/// The status of a saga; see "The life of a saga" in ARCHITECTURE.md.
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
pub enum Status {
    /// Going forward.
    Running,
    /// Undoing finished steps, in reverse order.
    Compensating,
    /// Every step is done.
    Completed,
    /// The saga failed, was cancelled or missed its deadline, and everything that was done is undone.
    Compensated,
    /// Dead-lettered: waiting for an operator, or given up.
    Dead,
}

impl Status {
    /// All statuses, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name under which it is stored.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the engine still works on the saga without an operator.
    pub fn is_active(self) -> bool {
        match self {
            Self::Running | Self::Compensating => true,
            Self::Completed | Self::Compensated | Self::Dead => false,
        }
    }
}

fn unknown_status(text: &str) -> String {
    format!("`{text}` is not a saga status")
}

/// One of a step's two sides: its action or its undo.
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
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = unknown_direction)]
pub enum Direction {
    /// The step's action.
    Action,
    /// The step's undo.
    Undo,
}

impl Direction {
    /// Both sides.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name under which it is stored.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_direction(text: &str) -> String {
    format!("`{text}` is not a direction")
}

/// One side of one step of a graph: its action or its undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepSide {
    /// Action or undo.
    pub direction: Direction,
    /// The index of the step in the graph.
    pub step_index: usize,
}
