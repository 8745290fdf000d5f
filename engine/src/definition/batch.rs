//! The sagas that a step works on, and its outcomes for them.

use std::{any::Any, sync::Arc};

use crate::{
    definition::{running_call::RunningCall, start_context::StartContext},
    model::{
        cause::Cause,
        ids::SagaId,
        outcome::{Outcome, UndoOutcome},
    },
};

/// One saga at a step, as the action gets it.
#[derive(Clone, Debug)]
pub struct Item<I> {
    /// The saga's id.
    pub saga_id: SagaId,
    /// The same for every attempt of this saga's action; pass it to the service that is called.
    pub idempotency_key: String,
    /// The number of the attempt, from one.
    pub attempt: u32,
    /// The step's input.
    pub input: I,
    /// The W3C `traceparent` of the caller that started the saga, for sagas and calls that this step starts.
    pub trace: Option<String>,
    pub(crate) context: StartContext,
    pub(crate) call: Option<Arc<RunningCall>>,
}

impl<I> Item<I> {
    /// What the caller of the start gave to the entry step with [`NewSaga::context`](crate::NewSaga::context), if it is
    /// of this type; always `None` in other steps.
    pub fn context<C: Any>(&self) -> Option<&C> {
        self.context.get()
    }
}

/// One saga at a step, as the undo gets it.
#[derive(Clone, Debug)]
pub struct UndoItem<I, O> {
    /// The saga's id.
    pub saga_id: SagaId,
    /// The same for every attempt of this saga's undo.
    pub idempotency_key: String,
    /// The idempotency key of the action's attempts.
    pub action_key: String,
    /// The number of the attempt, from one.
    pub attempt: u32,
    /// The input of the step's action.
    pub input: I,
    /// The output of the action. The undo of a call gets an `Option`: `None` if it is in doubt whether the call
    /// happened.
    pub output: O,
    /// Why the saga compensates.
    pub cause: Cause,
    /// The W3C `traceparent` of the caller that started the saga.
    pub trace: Option<String>,
    pub(crate) call: Option<Arc<RunningCall>>,
}

/// The sagas that a step works on at once, in the order of their ids.
#[derive(Debug)]
pub struct BatchOf<T>(pub(crate) Vec<T>);

/// The batch of an action.
pub type Batch<I> = BatchOf<Item<I>>;
/// The batch of an undo.
pub type UndoBatch<I, O> = BatchOf<UndoItem<I, O>>;

impl<T> BatchOf<T> {
    /// The number of sagas; never zero.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Iterates over the sagas.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<'a, T> IntoIterator for &'a BatchOf<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<I> BatchOf<Item<I>> {
    /// Decides for every saga, in order.
    pub fn decide<O>(&self, decision: impl FnMut(&Item<I>) -> Outcome<O>) -> Outcomes<O> {
        Outcomes(self.0.iter().map(decision).collect())
    }
}

impl<I, O> BatchOf<UndoItem<I, O>> {
    /// Decides for every saga, in order.
    pub fn decide(&self, decision: impl FnMut(&UndoItem<I, O>) -> UndoOutcome) -> UndoOutcomes {
        UndoOutcomes(self.0.iter().map(decision).collect())
    }
}

/// The outcomes of an action, one for each saga of the batch in the same order; made by [`BatchOf::decide`].
#[derive(Debug)]
pub struct Outcomes<O>(pub(crate) Vec<Outcome<O>>);

impl<O> Outcomes<O> {
    /// Iterates over the outcomes, in the batch's order.
    pub fn iter(&self) -> std::slice::Iter<'_, Outcome<O>> {
        self.0.iter()
    }
}

impl<'a, O> IntoIterator for &'a Outcomes<O> {
    type Item = &'a Outcome<O>;
    type IntoIter = std::slice::Iter<'a, Outcome<O>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// The outcomes of an undo, one for each saga of the batch in the same order.
#[derive(Debug)]
pub struct UndoOutcomes(pub(crate) Vec<UndoOutcome>);

impl UndoOutcomes {
    /// Iterates over the outcomes, in the batch's order.
    pub fn iter(&self) -> std::slice::Iter<'_, UndoOutcome> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a UndoOutcomes {
    type Item = &'a UndoOutcome;
    type IntoIter = std::slice::Iter<'a, UndoOutcome>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
