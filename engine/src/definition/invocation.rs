//! What a step gets of one saga, before it is decoded.

use std::sync::Arc;

use crate::{
    definition::{running_call::RunningCall, start_context::StartContext},
    model::{cause::Cause, ids::SagaId, status::Direction, stored_value::StoredValues},
};

/// One saga at one step, with all outputs it has stored so far.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) saga_id: SagaId,
    pub(crate) step: String,
    pub(crate) attempt: u32,
    /// Index zero is the saga's input, index `n + 1` the output of step `n`.
    pub(crate) values: StoredValues,
    pub(crate) cause: Option<Cause>,
    pub(crate) trace: Option<Arc<str>>,
    /// What the start gave to its entry step; empty for all others.
    pub(crate) context: StartContext,
    /// The call that is made now; `None` for transaction steps.
    pub(crate) call: Option<Arc<RunningCall>>,
    /// Makes the idempotency key differ between attempts; set only by tests that disable it as a guard.
    pub(crate) idempotency_key_salt: Option<u32>,
}

impl Invocation {
    /// The idempotency key of one side of the step.
    pub(super) fn key(&self, direction: Direction) -> String {
        match self.idempotency_key_salt {
            None => format!("{}:{}:{direction}", self.saga_id, self.step),
            Some(idempotency_key_salt) => {
                format!("{}:{}:{direction}:{idempotency_key_salt}", self.saga_id, self.step)
            }
        }
    }
}
