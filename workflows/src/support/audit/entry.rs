//! Entries of the audit log, before they are stored.

use std::net::IpAddr;

use engine::Operator;
use serde_json::{Map, Value};

/// Who makes a change, and how the request came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditActor<'a> {
    /// The person's name, as timelines and ledgers show it.
    pub actor: &'a str,
    /// The API key of the request.
    pub key_id: Option<&'a str>,
    /// The caller's address.
    pub address: Option<IpAddr>,
    /// The trace of the request.
    pub trace_id: Option<&'a str>,
}

/// An actor of whom only the name is known: a command, a test, a part of the program.
impl<'a> From<&'a str> for AuditActor<'a> {
    fn from(actor: &'a str) -> Self {
        Self { actor, ..Self::default() }
    }
}

/// An [`AuditActor`] that a saga's start carries to its entry step.
#[derive(Clone, Debug)]
pub(crate) struct StartActor {
    actor: String,
    key_id: Option<String>,
    address: Option<IpAddr>,
    trace_id: Option<String>,
}

impl StartActor {
    /// The actor as it is recorded.
    pub(crate) fn get(&self) -> AuditActor<'_> {
        AuditActor {
            actor: &self.actor,
            key_id: self.key_id.as_deref(),
            address: self.address,
            trace_id: self.trace_id.as_deref(),
        }
    }
}

impl From<AuditActor<'_>> for StartActor {
    fn from(by: AuditActor<'_>) -> Self {
        let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
        let (actor, key_id, trace_id) = (by.actor.to_owned(), owned(by.key_id), owned(by.trace_id));
        Self { actor, key_id, address: by.address, trace_id }
    }
}

/// For changes of sagas, which the engine records.
impl<'a> From<AuditActor<'a>> for Operator<'a> {
    fn from(by: AuditActor<'a>) -> Self {
        let address = by.address.map(|address| address.to_string());
        let known = [
            ("key_id", by.key_id.map(ToOwned::to_owned)),
            ("address", address),
            ("trace_id", by.trace_id.map(ToOwned::to_owned)),
        ];
        let known: Map<String, Value> =
            known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
        let context = (!known.is_empty()).then_some(Value::Object(known));
        Self { actor: by.actor, context }
    }
}

/// A change to record.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry<'a> {
    pub(super) action: &'static str,
    pub(super) subject_kind: &'static str,
    pub(super) subject_id: &'a str,
    pub(super) reason: Option<&'a str>,
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
}

impl<'a> AuditEntry<'a> {
    /// Makes an entry. `action` is `<noun>.<verb>` in kebab-case, and is stored; the subject is what was changed.
    pub fn new(action: &'static str, subject_kind: &'static str, subject_id: &'a str) -> Self {
        Self { action, subject_kind, subject_id, reason: None, before: None, after: None }
    }

    /// Sets the reason.
    pub fn reason(mut self, reason: Option<&'a str>) -> Self {
        self.reason = reason;
        self
    }

    /// Sets the state before the change.
    pub fn before(mut self, before: Value) -> Self {
        self.before = Some(before);
        self
    }

    /// Sets the state after the change.
    pub fn after(mut self, after: Value) -> Self {
        self.after = Some(after);
        self
    }
}
