//! Where a saga is in its life.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A saga's status; see the life cycle in ARCHITECTURE.md.
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
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = unknown_status)]
pub enum Status {
    /// Going forward.
    Running,
    /// Undoing what was done, in reverse order.
    Compensating,
    /// Every step is done.
    Completed,
    /// It failed, was cancelled or ran out of time, and everything done was undone.
    Compensated,
    /// Parked for a person, as a dead job.
    Dead,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Running, Self::Compensating, Self::Completed, Self::Compensated, Self::Dead];

    /// The stored name.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the engine still moves the saga by itself.
    pub fn is_active(self) -> bool {
        match self {
            Self::Running | Self::Compensating => true,
            Self::Completed | Self::Compensated | Self::Dead => false,
        }
    }
}

fn unknown_status(text: &str) -> String {
    format!("`{text}` is no saga status")
}

/// Which of a step's two sides is meant.
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
    /// The stored name.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_direction(text: &str) -> String {
    format!("`{text}` is no direction")
}

/// One side of one step of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSide {
    /// Which side.
    pub direction: Direction,
    /// The step, by its place in the graph.
    pub step_index: usize,
}
