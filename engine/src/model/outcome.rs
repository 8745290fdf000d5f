//! What a step can answer. The batches are closed: there is nothing else an action or an undo can say.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one attempt of an action came to, for one saga.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<O> {
    /// It is done; `O` is stored and later steps may read it.
    Done(O),
    /// It did not work this time (an outage, a time-out); try again as the step's policy says.
    Retry(Retry),
    /// The answer is no, and asking again would not change it: before the pivot the saga compensates, after it the saga
    /// is parked for a person.
    Fail(Failure),
}

impl<O> Outcome<O> {
    /// Shorthand for [`Outcome::Fail`] with a stable code and a sentence.
    pub fn fail(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Fail(Failure::new(code, message))
    }

    /// Shorthand for [`Outcome::Retry`] with the error and the policy's own delay.
    pub fn retry(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Retry(Retry::because(error))
    }
}

/// What one attempt of an undo came to, for one saga. An undo can't refuse: it is done, or tried again until it is
/// out of attempts and a person is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum UndoOutcome {
    /// The action's effect is gone.
    Done,
    /// It did not work this time.
    Retry(Retry),
}

/// Why an attempt is to be repeated, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// When to try again; `None` leaves it to the step's policy.
    pub after: Option<Duration>,
    /// Does this attempt count? An attempt that an open circuit breaker stopped before it began does not.
    pub counts: Counts,
    /// The error with its causes, outermost first.
    pub error: Vec<String>,
    /// What helps a program that reads the history; `null` when there is nothing.
    pub details: serde_json::Value,
}

/// Whether an attempt that is to be repeated is one of the policy's attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// The usual case.
    Attempt,
    /// Nothing was attempted; the work is only snoozed.
    Snooze,
}

impl Retry {
    /// Tries again as the policy says; keeps the error and all its causes.
    pub fn because(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::of(chain(error))
    }

    /// Tries again as the policy says, because of what the sentence tells.
    pub fn message(error: impl Into<String>) -> Self {
        Self::of(vec![error.into()])
    }

    /// Postpones work that was not begun, without using up an attempt.
    pub fn snooze(after: Duration, why: impl Into<String>) -> Self {
        Self { after: Some(after), counts: Counts::Snooze, ..Self::message(why) }
    }

    /// Tries again as the policy says; the error is given as it is stored, outermost first.
    pub(crate) fn of(error: Vec<String>) -> Self {
        Self { after: None, counts: Counts::Attempt, error, details: serde_json::Value::Null }
    }

    /// Adds details, which are stored with the attempt.
    pub fn with(mut self, details: serde_json::Value) -> Self {
        self.details = details;
        self
    }

    /// Sets the wait, instead of the policy's.
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = Some(delay);
        self
    }
}

/// A final no: a stable code for programs, a sentence for people, and details as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// A kebab-case code that stays the same over releases, such as `insufficient-stock`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Whatever helps a program act on it; `null` when there is nothing.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
}

impl Failure {
    /// A failure without details.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), details: serde_json::Value::Null }
    }

    /// Adds details.
    pub fn with(mut self, details: serde_json::Value) -> Self {
        self.details = details;
        self
    }
}

/// Why a saga compensates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// A step said no, or was out of attempts (code `attempts-exhausted`).
    Failed {
        /// The step that failed.
        step: String,
        /// What it answered.
        failure: Failure,
    },
    /// It was cancelled.
    Cancelled {
        /// Who cancelled it.
        actor: String,
        /// Why, in the actor's words.
        reason: String,
        /// What the cancel came from.
        #[serde(default)]
        origin: CancelOrigin,
    },
    /// Its deadline passed before its pivot.
    DeadlinePassed,
}

/// What a cancel came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CancelOrigin {
    /// A caller asked for it.
    #[default]
    Requested,
    /// An operator discarded the dead job of the saga.
    Discarded,
    /// The dead job of the saga expired.
    Expired,
}

impl Cause {
    /// Whether the saga was cancelled because its dead job was discarded or expired: the reason is then for operators.
    pub fn is_given_up(&self) -> bool {
        match self {
            Self::Cancelled { origin, .. } => match origin {
                CancelOrigin::Discarded | CancelOrigin::Expired => true,
                CancelOrigin::Requested => false,
            },
            Self::Failed { .. } | Self::DeadlinePassed => false,
        }
    }

    /// One sentence for logs and lists.
    pub fn sentence(&self) -> String {
        match self {
            Self::Failed { step, failure } => format!("{step}: {} ({})", failure.message, failure.code),
            Self::Cancelled { actor, reason, origin } => match origin {
                CancelOrigin::Requested => format!("cancelled by {actor}: {reason}"),
                CancelOrigin::Discarded => format!("discarded by {actor}: {reason}"),
                CancelOrigin::Expired => format!("expired: {reason}"),
            },
            Self::DeadlinePassed => "the deadline passed".into(),
        }
    }
}

/// Lists an error and its causes, outermost first.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect()
}
