//! A saga that is to be started.

use std::{borrow::Cow, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::model::ids::SagaId;

/// A saga prepared to be started.
#[derive(Clone, Debug)]
pub struct NewSaga {
    pub(crate) id: SagaId,
    pub(crate) definition: Cow<'static, str>,
    pub(crate) input: Result<Arc<RawValue>, String>,
    pub(crate) typed: bool,
    pub(crate) business_key: Option<String>,
    pub(crate) trace: Option<String>,
}

impl NewSaga {
    pub(crate) fn typed<I: Serialize>(definition: &'static str, input: &I) -> Self {
        let input = serde_json::value::to_raw_value(input).map(Arc::from).map_err(|error| error.to_string());
        Self::new(Cow::Borrowed(definition), input, true)
    }

    /// Prepares a saga of a definition known by name only; the input is checked against its type at the start.
    pub fn untyped(definition: &str, input: &serde_json::Value) -> Self {
        let input = serde_json::value::to_raw_value(input).map(Arc::from).map_err(|error| error.to_string());
        Self::new(Cow::Owned(definition.into()), input, false)
    }

    fn new(definition: Cow<'static, str>, input: Result<Arc<RawValue>, String>, typed: bool) -> Self {
        Self { id: SagaId::generate(), definition, input, typed, business_key: None, trace: None }
    }

    /// Sets the id, for a caller that stores it elsewhere too.
    pub fn id(mut self, id: SagaId) -> Self {
        self.id = id;
        self
    }

    /// Makes the start idempotent: a second start of the same definition with this key finds the first saga.
    pub fn business_key(mut self, key: impl Into<String>) -> Self {
        self.business_key = Some(key.into());
        self
    }

    /// Keeps a W3C `traceparent`, so that the steps join the caller's trace.
    pub fn trace(mut self, traceparent: Option<String>) -> Self {
        self.trace = traceparent;
        self
    }

    /// As [`NewSaga::trace`], unless one is kept already.
    pub(crate) fn trace_or(self, current: impl FnOnce() -> Option<String>) -> Self {
        let trace = self.trace.or_else(current);
        Self { trace, ..self }
    }

    /// The id it will have, unless its business key was used before.
    pub fn saga_id(&self) -> SagaId {
        self.id
    }
}

/// A saga that was started, now or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The saga.
    pub saga_id: SagaId,
    /// Whether its business key (or id) had been used before: this is that saga, and nothing was started.
    pub existing: bool,
}
