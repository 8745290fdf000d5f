//! Signals: messages that sagas wait for, what becomes of them, and why one is refused.

use std::{borrow::Cow, marker::PhantomData, time::Duration};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::model::{
    ids::SagaId,
    status::Status,
    stored_value::{StoredValue, TooLarge},
};

/// The stored name of a signal with the type of its message.
///
/// ```
/// use std::time::Duration;
/// use engine::SignalName;
///
/// #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// struct Approval { by: String, approved: bool }
///
/// const APPROVAL: SignalName<Approval> = SignalName::new("approval");
/// // For the definition: waits for the first approval, for three days at most.
/// let wait = APPROVAL.within(Duration::from_hours(72));
/// // For the sender.
/// let signal = APPROVAL.with(&Approval { by: "ada".into(), approved: true }).key("decision-17");
/// ```
#[derive(Debug)]
pub struct SignalName<T> {
    name: &'static str,
    only_new: bool,
    message: PhantomData<fn(T)>,
}

impl<T> Clone for SignalName<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SignalName<T> {}

impl<T> SignalName<T> {
    /// Creates the name, which must be kebab-case. Renaming a signal is a data migration.
    pub const fn new(name: &'static str) -> Self {
        Self { name, only_new: false, message: PhantomData }
    }

    /// The name under which it is stored.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// For a definition: a wait for this signal that takes no message from before the saga reached it. Those become too
    /// late. Otherwise the oldest message that no wait has consumed ends the wait at once.
    pub const fn only_new(self) -> Self {
        Self { only_new: true, ..self }
    }

    /// For a definition: a wait for this signal that ends after `longest` at the latest.
    pub const fn within(self, longest: Duration) -> SignalWait<T> {
        SignalWait { signal: self, longest }
    }

    pub(crate) const fn takes_only_new(self) -> bool {
        self.only_new
    }
}

impl<T: Serialize> SignalName<T> {
    /// Prepares a signal with this message, to be sent.
    pub fn with(&self, message: &T) -> Signal {
        Signal::new(Cow::Borrowed(self.name), message)
    }
}

/// A wait for a signal that ends after a fixed time at the latest; made by [`SignalName::within`].
#[derive(Debug)]
pub struct SignalWait<T> {
    pub(crate) signal: SignalName<T>,
    pub(crate) longest: Duration,
}

impl<T> Clone for SignalWait<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SignalWait<T> {}

/// How a wait for a signal ended: the output of its step. In the history it is `{"received": …}` or `"timed_out"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Signalled<T> {
    /// The signal came, with this message.
    Received(T),
    /// The time was over, or an operator ended the wait.
    TimedOut,
}

impl<T> Signalled<T> {
    /// The message, if it came.
    pub fn received(self) -> Option<T> {
        match self {
            Self::Received(message) => Some(message),
            Self::TimedOut => None,
        }
    }
}

/// The output of a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Slept {
    /// The time for which the saga waited.
    pub until: DateTime<Utc>,
}

/// A signal to be sent.
#[derive(Clone, Debug)]
pub struct Signal {
    pub(crate) name: Cow<'static, str>,
    pub(crate) message: Result<StoredValue, String>,
    pub(crate) key: Option<String>,
    pub(crate) sender: Option<String>,
}

impl Signal {
    /// Prepares a signal known only by name. Its message is checked against the type that the saga waits for, if this
    /// process has the saga's code.
    pub fn untyped(name: &str, message: &serde_json::Value) -> Self {
        Self::new(Cow::Owned(name.into()), message)
    }

    fn new<T: Serialize>(name: Cow<'static, str>, message: &T) -> Self {
        let message = StoredValue::encode(message).map_err(|error| format!("it {error}"));
        Self { name, message, key: None, sender: None }
    }

    /// Makes sending idempotent: a saga takes one signal of this name and key, for as long as it is kept. Without a key
    /// every call sends another signal.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// As [`Signal::key`], unless it has one.
    pub(crate) fn key_or(self, key: impl FnOnce() -> String) -> Self {
        let key = Some(self.key.unwrap_or_else(key));
        Self { key, ..self }
    }

    /// Sets who sends it, which is stored with it.
    pub fn sender(mut self, sender: impl Into<String>) -> Self {
        self.sender = Some(sender.into());
        self
    }
}

/// The saga for which a signal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalTarget {
    /// The saga with this id.
    Saga(SagaId),
    /// The saga of this definition that was started with this business key.
    Key {
        /// The name of the definition.
        definition: String,
        /// The business key.
        business_key: String,
    },
}

impl From<SagaId> for SignalTarget {
    fn from(saga_id: SagaId) -> Self {
        Self::Saga(saga_id)
    }
}

impl SignalTarget {
    /// The saga of this definition that was started with this business key.
    pub fn key(definition: impl Into<String>, business_key: impl Into<String>) -> Self {
        Self::Key { definition: definition.into(), business_key: business_key.into() }
    }
}

/// How far a signal that was sent has come.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SignalState {
    /// It is stored. A wait of the saga takes it, now or when the saga comes to it.
    #[strum(serialize = "unread")]
    Buffered,
    /// A wait of the saga has taken it.
    Consumed,
    /// The saga had passed the last wait for it, or ended, before it could be taken.
    TooLate,
    /// The code of the saga that looked at it could not read its message. Other code, such as that of another version, may
    /// still take it.
    Unreadable,
}

impl SignalState {
    /// All states, in the order of their declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            other @ (Self::Consumed | Self::TooLate | Self::Unreadable) => other.into(),
        }
    }
}

/// The answer to a signal: it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalReceipt {
    /// The saga for which it is.
    pub saga_id: SagaId,
    /// How far it has come.
    pub state: SignalState,
    /// Whether a signal of this name, key and message was sent before, so that nothing was stored now.
    pub replayed: bool,
}

/// Why a signal was refused. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// There is no such saga.
    #[error("there is no saga {0}")]
    NotFound(SagaId),
    /// There is no such saga, or it was deleted.
    #[error("no saga `{definition}` was started with the key `{business_key}`")]
    NoSuchKey {
        /// The name of the definition.
        definition: String,
        /// The business key.
        business_key: String,
    },
    /// The saga's definition has no wait for a signal of this name.
    #[error("saga `{definition}` waits for no signal `{name}`{}", or_for(.known))]
    UnknownSignal {
        /// The name of the saga's definition.
        definition: String,
        /// The name of the signal.
        name: String,
        /// The signals for which it waits.
        known: Vec<String>,
    },
    /// The saga has ended or goes back.
    #[error("the saga takes no signals any more: it is {0}")]
    Ended(Status),
    /// The message does not fit the type for which the saga waits.
    #[error("the message does not fit at `{pointer}`: {reason}")]
    BadMessage {
        /// The place that is wrong, as a JSON pointer into the message (RFC 6901); empty for the message as a whole.
        pointer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The message is larger than [`EngineBuilder::max_payload`](crate::EngineBuilder::max_payload) allows.
    #[error("the message has {size} bytes, and may have {limit}")]
    TooLarge {
        /// The bytes of its JSON.
        size: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A signal with this name and key was sent before, with another message.
    #[error("the key `{0}` was used for a signal with another message")]
    KeyReused(String),
    /// The saga has [`SignalError::MOST_KEPT`] signals that it has not taken.
    #[error("the saga has {} signals that it has not taken: it takes no more until it has", Self::MOST_KEPT)]
    TooMany,
    /// The key is empty or too long.
    #[error("a key has 1 to {} characters", Self::LONGEST_KEY)]
    BadKey,
    /// The graph of the saga is not stored, or in a form that this engine can't read.
    #[error("the graph {0} of the saga is not known here: ask a process of the version that started it")]
    UnknownGraph(String),
    /// The database refused a statement or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

impl SignalError {
    /// The longest key, in characters.
    pub const LONGEST_KEY: usize = 200;
    /// How many signals are kept for a saga that has not taken them.
    pub const MOST_KEPT: u32 = 1000;
}

fn or_for(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(", but for `{}`", known.join("`, `")) }
}

impl From<TooLarge> for SignalError {
    fn from(TooLarge { size, limit }: TooLarge) -> Self {
        Self::TooLarge { size, limit }
    }
}

/// What the message of a signal has to be; every such type is one.
pub trait SignalMessage: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static> SignalMessage for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_have_names_for_callers_and_for_rows() {
        let names: Vec<_> = SignalState::ALL.iter().map(|state| state.name()).collect();
        assert_eq!(names, ["buffered", "consumed", "too_late", "unreadable"]);
        assert_eq!("unread".parse(), Ok(SignalState::Buffered));
        assert_eq!(serde_json::to_value(SignalState::TooLate).unwrap(), "too_late");
    }

    #[test]
    fn an_output_says_whether_the_signal_came() {
        let json = |output: &Signalled<u8>| serde_json::to_string(output).unwrap();
        assert_eq!(json(&Signalled::Received(7)), r#"{"received":7}"#);
        assert_eq!(json(&Signalled::TimedOut), r#""timed_out""#);
    }
}
