//! The kinds of steps: transaction or call, before or after the pivot, and with or without an undo.

use serde::Serialize;

/// What a step works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// The engine's PostgreSQL only; takes effect exactly once.
    Transaction,
    /// An outside service; happens at least once.
    Call,
}

/// Where a step is relative to the pivot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Before the pivot: a failure compensates.
    BeforePivot,
    /// The pivot, the point of no return.
    Pivot,
    /// After the pivot: the saga only goes forward.
    AfterPivot,
}

/// Whether a step has an undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoKind {
    /// The step has an undo.
    #[serde(rename = "undone")]
    HasUndo,
    /// The step leaves nothing that would need an undo.
    NothingToUndo,
    /// The step is the pivot or after it, and is never undone.
    ForwardOnly,
}
