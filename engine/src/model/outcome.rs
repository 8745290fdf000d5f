//! The outcomes of steps and the causes of compensation. Both enums of outcomes are closed: an action or an undo has no
//! other way to answer.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The outcome of one attempt of an action, for one saga.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<O> {
    /// The action is done; `O` is stored, and later steps may read it.
    Done(O),
    /// The attempt failed for a reason that may pass (an outage, a time-out): try again as the step's policy says.
    Retry(Retry),
    /// The action failed for good, and repeating it would not help: before the pivot the saga compensates, past it
    /// the saga is dead-lettered.
    Fail(Failure),
}

impl<O> Outcome<O> {
    /// Shorthand for [`Outcome::Fail`] with a stable code and a sentence.
    pub fn fail(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Fail(Failure::new(code, message))
    }

    /// Shorthand for [`Outcome::Retry`] with the error and the policy's delay.
    pub fn retry(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Retry(Retry::because(error))
    }
}

/// The outcome of one attempt of an undo, for one saga. An undo can't refuse: it is done, or it is tried again until it
/// is out of attempts and the saga is dead-lettered.
#[derive(Clone, Debug, PartialEq)]
pub enum UndoOutcome {
    /// The action's effect is reversed.
    Done,
    /// The attempt failed for a reason that may pass.
    Retry(Retry),
}

/// Why an attempt is repeated, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The delay before the next attempt; `None` for the policy's delay.
    pub after: Option<Duration>,
    /// Whether this attempt counts. An attempt that an open circuit breaker prevented does not.
    pub counts: Counts,
    /// The error with its causes, outermost first.
    pub error: Vec<String>,
    /// Details for programs that read the history; `null` if there are none.
    pub details: serde_json::Value,
}

/// Whether an attempt that is repeated uses up one of the policy's attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// It does: the usual case.
    Attempt,
    /// It does not: nothing was attempted, the work is only snoozed. Snoozes in a row end after
    /// [`RetryPolicy::max_postponed`](crate::RetryPolicy::max_postponed).
    Snooze,
}

impl Retry {
    /// Repeats the attempt as the policy says; stores the error and all its causes.
    pub fn because(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::of(chain(error))
    }

    /// Repeats the attempt as the policy says; stores this sentence as the error.
    pub fn message(error: impl Into<String>) -> Self {
        Self::of(vec![error.into()])
    }

    /// Postpones work that was not started, without using up an attempt, for
    /// [`RetryPolicy::max_postponed`](crate::RetryPolicy::max_postponed) at most. An attempt that may have had an
    /// effect is not snoozed, or its effect could be repeated without end.
    pub fn snooze(after: Duration, why: impl Into<String>) -> Self {
        Self { after: Some(after), counts: Counts::Snooze, ..Self::message(why) }
    }

    /// Repeats the attempt as the policy says; `error` is the chain of causes, outermost first.
    pub(crate) fn of(error: Vec<String>) -> Self {
        Self { after: None, counts: Counts::Attempt, error, details: serde_json::Value::Null }
    }

    /// Adds details, which are stored with the attempt.
    pub fn with(mut self, details: serde_json::Value) -> Self {
        self.details = details;
        self
    }

    /// Sets the delay, instead of the policy's.
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = Some(delay);
        self
    }
}

/// A failure for good: a stable code for programs, a sentence for people, and details as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// A kebab-case code that stays the same over releases, such as `insufficient-stock`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Details for programs; `null` if there are none.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
}

impl Failure {
    /// The code of a failure for good that the engine itself causes: the step's output is larger than
    /// [`EngineBuilder::max_payload`](crate::EngineBuilder::max_payload).
    pub const OUTPUT_TOO_LARGE: &'static str = "output-too-large";
    /// The code of a failure for good that the engine itself causes: snoozes put the step off for longer than
    /// [`RetryPolicy::max_postponed`](crate::RetryPolicy::max_postponed).
    pub const POSTPONED_TOO_LONG: &'static str = "postponed-too-long";

    /// The code of a failure for good that the engine itself causes: the step was out of attempts.
    pub const ATTEMPTS_EXHAUSTED: &'static str = "attempts-exhausted";

    /// The code of a failure for good that the engine itself causes: a child of the step did not complete.
    pub const CHILD_FAILED: &'static str = "child-failed";
    /// The code of a failure for good that the engine itself causes: a step would have more than 10,000 children.
    pub const TOO_MANY_CHILDREN: &'static str = "too-many-children";
    /// The code of a failure for good that the engine itself causes: what reads the items of a step in pages
    /// ([`ItemPages`](crate::ItemPages)) does not go on where it ended.
    pub const BAD_PAGE: &'static str = "bad-page";
    /// The code of a failure for good that the engine itself causes: a child would have more than eight ancestors.
    pub const TOO_DEEP: &'static str = "too-deep";

    /// The code with which the engine refuses a start: a signal that was to be sent with it was refused.
    pub const SIGNAL_REFUSED: &'static str = "signal-refused";

    /// Whether the engine caused the failure, and not an answer of the step. Its message is then meant for operators.
    pub fn is_of_the_engine(&self) -> bool {
        [
            Self::OUTPUT_TOO_LARGE,
            Self::POSTPONED_TOO_LONG,
            Self::ATTEMPTS_EXHAUSTED,
            Self::CHILD_FAILED,
            Self::TOO_MANY_CHILDREN,
            Self::BAD_PAGE,
            Self::TOO_DEEP,
        ]
        .contains(&self.code.as_str())
    }

    /// Creates a failure without details.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), details: serde_json::Value::Null }
    }

    /// Adds details.
    pub fn with(mut self, details: serde_json::Value) -> Self {
        self.details = details;
        self
    }
}

/// Lists an error and its causes, outermost first.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect()
}
