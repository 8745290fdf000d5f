//! The kinds of steps: what a step talks to, where it stands relative to the pivot, and how it is undone.

use serde::Serialize;

/// What a step talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// This PostgreSQL only; exactly once.
    Transaction,
    /// The outside world; at least once.
    Call,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Failure compensates from here.
    BeforePivot,
    /// The point of no return.
    Pivot,
    /// Forward only.
    AfterPivot,
}

/// What was decided about undoing a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoKind {
    /// It has an undo.
    #[serde(rename = "undone")]
    HasUndo,
    /// It needs none.
    NothingToUndo,
    /// It is the pivot, or stands after it.
    ForwardOnly,
}
