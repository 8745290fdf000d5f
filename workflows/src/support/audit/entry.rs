//! An entry of the audit: who changed what.

use std::net::IpAddr;

use engine::Operator;
use serde_json::{Map, Value};

/// Who changes something, and how they came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditActor<'a> {
    /// Their name, as timelines and ledgers show it.
    pub actor: &'a str,
    /// The API key that they used.
    pub key_id: Option<&'a str>,
    /// Where they called from.
    pub address: Option<IpAddr>,
    /// The request's trace.
    pub trace_id: Option<&'a str>,
}

/// Somebody of whom only the name is known: a command, a test, a part of the program.
impl<'a> From<&'a str> for AuditActor<'a> {
    fn from(actor: &'a str) -> Self {
        Self { actor, ..Self::default() }
    }
}

/// For what is done to sagas, which the engine records.
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

/// One change.
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
    /// `action` is `<noun>.<verb>` in kebab-case and stored data; the subject is what was changed.
    pub fn new(action: &'static str, subject_kind: &'static str, subject_id: &'a str) -> Self {
        Self { action, subject_kind, subject_id, reason: None, before: None, after: None }
    }

    /// Why.
    pub fn reason(mut self, reason: Option<&'a str>) -> Self {
        self.reason = reason;
        self
    }

    /// How it was.
    pub fn before(mut self, before: Value) -> Self {
        self.before = Some(before);
        self
    }

    /// How it is now.
    pub fn after(mut self, after: Value) -> Self {
        self.after = Some(after);
        self
    }
}
