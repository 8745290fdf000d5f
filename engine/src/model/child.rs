//! Sagas that another saga starts and waits for: its children.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{cause::Cause, ids::SagaId, outcome::Failure, status::Status};

/// The most children of a step.
pub(crate) const MOST_CHILDREN: usize = 10_000;

/// The failure of a step with so many items.
pub(crate) fn too_many_children(count: &str) -> Failure {
    let why = format!("it has {count} items, and may have {MOST_CHILDREN}");
    Failure::new(Failure::TOO_MANY_CHILDREN, why)
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildEnd<O> {
    /// It completed, with this result.
    Completed(O),
    /// It compensated, or its entry step refused it.
    Compensated(Cause),
    /// It died, and an operator or a clock gave it up.
    GivenUp,
}

impl<O> ChildEnd<O> {
    /// The result, if it completed.
    pub fn completed(self) -> Option<O> {
        match self {
            Self::Completed(result) => Some(result),
            Self::Compensated(_) | Self::GivenUp => None,
        }
    }
}

/// What the children of a [`parallel`](crate::Saga::parallel) step gave, or how they ended, as a tuple. It is a type of
/// its own because a tuple that a step reads means several values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Joined<T>(pub T);

/// How the children of a `for_each` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EachEnded {
    /// How many there were.
    pub total: u32,
    /// How many completed.
    pub completed: u32,
    /// How many did not; zero unless it is [settled](crate::Each::settled).
    pub failed: u32,
}

/// How far the children of one step are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChildrenOf {
    /// The parent's step.
    pub step: String,
    /// How many have not ended.
    pub open: i64,
    /// How many have completed.
    pub completed: i64,
    /// How many have compensated, or were refused by their entry step.
    pub compensated: i64,
    /// How many died and were given up.
    pub given_up: i64,
    /// How many of the open ones wait for a process that knows their graph.
    pub wait_for_version: i64,
    /// The hashes of the graphs for which they wait, at most ten.
    pub missing_graphs: Vec<String>,
}

/// One child of a step, with what it gave: of each position the last one that was started.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChildResult {
    /// The number of the child, from zero.
    pub position: u32,
    /// How often the parent's step had been begun anew.
    pub round: u32,
    /// The child.
    pub saga_id: SagaId,
    /// The name of its definition.
    pub definition: String,
    /// Its status.
    pub status: Status,
    /// What it gave, if it has completed and its definition gives a result.
    pub result: Option<Value>,
    /// Why it compensates or has compensated.
    pub cause: Option<Cause>,
    /// The last error, one sentence.
    pub error: Option<String>,
    /// What it waits for, as [`SagaView::waits_for`](crate::SagaView::waits_for).
    pub waits_for: Option<String>,
    /// When it completed, was compensated, or was given up.
    pub ended_at: Option<DateTime<Utc>>,
}

/// What becomes of the children of a saga that was discarded while they had not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftChildren {
    /// How many were sent a cancel.
    pub cancelled: i64,
    /// How many go on without it, because they are past their own pivot.
    pub go_on: i64,
}

/// The place of a child among those of its parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChildOf {
    /// The parent.
    pub parent_id: SagaId,
    /// The topmost ancestor.
    pub root_id: SagaId,
    /// The parent's step.
    pub step: String,
    /// How often the parent's step had been begun anew as a whole.
    pub round: u32,
    /// The number of the child, from zero.
    pub position: u32,
    /// How many ancestors it has.
    pub depth: u16,
}

/// Why the first child of a step failed it.
#[derive(Clone, Debug)]
pub(crate) struct FailedChild {
    pub(crate) saga_id: SagaId,
    pub(crate) definition: String,
    pub(crate) position: u32,
    pub(crate) cause: Option<Cause>,
}

impl FailedChild {
    /// The failure of the parent's step.
    pub(crate) fn failure(&self) -> Failure {
        Failure::new(Failure::CHILD_FAILED, self.to_string()).with(serde_json::json!({
            "saga_id": self.saga_id, "definition": self.definition, "position": self.position, "cause": self.cause,
        }))
    }
}

impl fmt::Display for FailedChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (definition, saga_id) = (&self.definition, self.saga_id);
        match &self.cause {
            Some(cause) => write!(f, "its child `{definition}` {saga_id} compensated: {}", cause.sentence()),
            None => write!(f, "its child `{definition}` {saga_id} died, and was given up"),
        }
    }
}
