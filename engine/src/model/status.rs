//! Where a saga is in its life.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A saga's status; see the life cycle in ARCHITECTURE.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
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
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Dead => "dead",
        }
    }

    /// Whether the engine still moves it by itself.
    pub fn is_active(self) -> bool {
        match self {
            Self::Running | Self::Compensating => true,
            Self::Completed | Self::Compensated | Self::Dead => false,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.name() == text)
            .ok_or_else(|| format!("`{text}` is no saga status"))
    }
}

/// Which of a step's two sides is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The step's action.
    Action,
    /// The step's undo.
    Undo,
}

impl Direction {
    /// The stored name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Action => "action",
            Self::Undo => "undo",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Direction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "action" => Ok(Self::Action),
            "undo" => Ok(Self::Undo),
            other => Err(format!("`{other}` is no direction")),
        }
    }
}

/// One side of one step of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSide {
    /// Which side.
    pub direction: Direction,
    /// The step, by its place in the graph.
    pub step_index: usize,
}
