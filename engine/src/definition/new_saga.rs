//! A saga to be started, and what starting it returns.

use std::{any::Any, borrow::Cow, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::{
    definition::start_context::StartContext,
    model::{begins::Begins, child::ChildOf, ids::SagaId, signal::Signal, stored_value::StoredValue},
};

/// A saga to be started.
#[derive(Clone, Debug)]
pub struct NewSaga {
    pub(crate) id: SagaId,
    pub(crate) definition: Cow<'static, str>,
    pub(crate) input: Result<StoredValue, String>,
    /// Whether the input is known to be of the definition's type.
    pub(crate) typed: bool,
    /// Whether the input was checked already.
    pub(crate) checked: bool,
    pub(crate) business_key: Option<String>,
    pub(crate) trace: Option<String>,
    pub(crate) context: StartContext,
    /// A signal that is sent to it, or to the existing one, in the transaction of the start.
    pub(crate) signal: Option<Signal>,
    pub(crate) begins: Option<Begins>,
    /// Instead of that of its definition.
    pub(crate) deadline: Option<Duration>,
    /// Its place among the children of another saga.
    pub(crate) child_of: Option<ChildOf>,
}

impl NewSaga {
    pub(crate) fn typed<I: Serialize>(definition: &'static str, input: &I) -> Self {
        Self::new(Cow::Borrowed(definition), input, true)
    }

    /// Prepares a saga of a definition known only by name. Its input is checked against the definition's type when it
    /// is started.
    pub fn untyped(definition: &str, input: &serde_json::Value) -> Self {
        Self::new(Cow::Owned(definition.into()), input, false)
    }

    /// Prepares a saga with an input that was stored before.
    pub(crate) fn stored(definition: &'static str, input: StoredValue) -> Self {
        Self::of(Cow::Borrowed(definition), Ok(input), false)
    }

    fn new<I: Serialize>(definition: Cow<'static, str>, input: &I, typed: bool) -> Self {
        Self::of(definition, StoredValue::encode(input).map_err(|error| format!("it {error}")), typed)
    }

    fn of(definition: Cow<'static, str>, input: Result<StoredValue, String>, typed: bool) -> Self {
        let id = SagaId::generate();
        let (business_key, trace, context) = (None, None, StartContext::default());
        let (signal, begins, deadline, child_of) = (None, None, None, None);
        let checked = false;
        Self {
            id,
            definition,
            input,
            typed,
            checked,
            business_key,
            trace,
            context,
            signal,
            begins,
            deadline,
            child_of,
        }
    }

    /// Sets the saga's id, for a caller that also stores it elsewhere.
    pub fn id(mut self, id: SagaId) -> Self {
        self.id = id;
        self
    }

    /// Makes the start idempotent: a second start of the same definition with this key returns the first saga, for as
    /// long as that saga is kept, and longer if the [`Retention`](crate::Retention) says so.
    pub fn business_key(mut self, key: impl Into<String>) -> Self {
        self.business_key = Some(key.into());
        self
    }

    /// Sets the W3C `traceparent` whose trace the saga's steps join.
    pub fn trace(mut self, traceparent: Option<String>) -> Self {
        self.trace = traceparent;
        self
    }

    /// Gives the entry step what it needs to know of the request and what must not be stored with the saga, such as
    /// who made it; the step reads it with [`Item::context`](crate::Item::context). No other step sees it.
    pub fn context(mut self, context: impl Any + Send + Sync) -> Self {
        self.context = StartContext::new(context);
        self
    }

    /// Sends a signal with the start, in its transaction: to the new saga, or to the existing one with the same business
    /// key. A start whose entry step or signal is refused stores neither
    /// ([`StartError::Refused`](crate::StartError::Refused)). A start sends one signal. If the caller may repeat the start,
    /// give the signal a [key](Signal::key).
    pub fn signal(mut self, signal: Signal) -> Self {
        self.signal = Some(signal);
        self
    }

    /// Lets the saga sleep until this time, after its entry step, if it has one. A time that has passed is no delay.
    pub fn start_at(mut self, time: DateTime<Utc>) -> Self {
        self.begins = Some(Begins::at(time));
        self
    }

    /// Lets the saga sleep for this long, ten years at most, after its entry step, if it has one.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.begins = Some(Begins::After(delay));
        self
    }

    /// Sets a deadline for this saga, instead of that of its definition ([`Saga::deadline`](crate::Saga::deadline)). Of a
    /// saga that sleeps first, it counts from the end of that sleep. A start is refused whose waits before the pivot are
    /// longer.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Makes it a child.
    pub(crate) fn child_of(self, child_of: ChildOf) -> Self {
        Self { child_of: Some(child_of), ..self }
    }

    /// As [`NewSaga::trace`], unless a `traceparent` is already set.
    pub(crate) fn trace_or(self, current: impl FnOnce() -> Option<String>) -> Self {
        let trace = self.trace.or_else(current);
        Self { trace, ..self }
    }

    /// The id that the saga gets, unless its business key was used before.
    pub fn saga_id(&self) -> SagaId {
        self.id
    }
}

/// The result of a start: a new saga, or the existing one with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The id of the saga.
    pub saga_id: SagaId,
    /// Whether a saga with this business key (or id) already existed. If so, nothing was started.
    pub existing: bool,
    /// If that saga has ended and was deleted since: until when its key starts no other.
    pub key_kept_until: Option<DateTime<Utc>>,
}

impl Started {
    /// A saga that did not exist before.
    pub(crate) fn new(saga_id: SagaId) -> Self {
        Self { saga_id, existing: false, key_kept_until: None }
    }
}
