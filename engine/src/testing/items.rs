//! What a step gets, made by hand, so that its code can be tested without an engine.

use std::any::Any;

use crate::{
    definition::{
        batch::{Batch, BatchOf, Item, UndoBatch, UndoItem},
        start_context::StartContext,
    },
    model::{
        cause::{CancelOrigin, Cause},
        ids::SagaId,
        status::Direction,
    },
};

/// One saga at a step, as its action gets it: the first attempt of a new saga. A test may set other fields. An
/// input that is [`Shared`](crate::Shared) or has a label ([`Of`](crate::Of)) is made with `into()`.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use engine::{CallError, CallStep, Item, NothingToUndo, Outcome, testing};
///
/// struct Charge;
/// impl CallStep for Charge {
///     const NAME: &'static str = "charge";
///     type Input = u32;
///     type Output = String;
///     type Undo = NothingToUndo;
///     async fn call(&self, item: &Item<u32>) -> Result<Outcome<String>, CallError> {
///         if item.input == 0 {
///             return Ok(Outcome::fail("nothing-to-pay", "the amount is zero"));
///         }
///         Ok(Outcome::Done(format!("receipt for {} cents", item.input)))
///     }
/// }
///
/// let answer = Charge.call(&testing::item(1200)).await?;
/// assert!(matches!(answer, Outcome::Done(receipt) if receipt == "receipt for 1200 cents"));
/// let answer = Charge.call(&testing::item(0)).await?;
/// assert!(matches!(answer, Outcome::Fail(failure) if failure.code == "nothing-to-pay"));
/// # Ok::<(), CallError>(())
/// # }).unwrap();
/// ```
pub fn item<I>(input: I) -> Item<I> {
    let saga_id = SagaId::generate();
    Item {
        saga_id,
        idempotency_key: key(saga_id, Direction::Action),
        attempt: 1,
        input,
        trace: None,
        context: StartContext::default(),
        call: None,
    }
}

/// As [`item`], for an entry step: with what the caller of the start gave it
/// ([`NewSaga::context`](crate::NewSaga::context)).
pub fn item_with_context<I>(input: I, context: impl Any + Send + Sync) -> Item<I> {
    Item { context: StartContext::new(context), ..item(input) }
}

/// The sagas that a transaction step works on at once, one for each input, in their order.
///
/// # Panics
/// When there is no input: a batch is never empty.
pub fn batch<I>(inputs: impl IntoIterator<Item = I>) -> Batch<I> {
    batch_of(inputs.into_iter().map(item))
}

/// As [`batch`], of items that the test has made.
///
/// # Panics
/// When there is no item.
pub fn batch_of<T>(items: impl IntoIterator<Item = T>) -> BatchOf<T> {
    let items: Vec<T> = items.into_iter().collect();
    assert!(!items.is_empty(), "a batch is never empty");
    BatchOf(items)
}

/// The saga of an item, as the undo of its step gets it, with the output of the action. The undo of a call gets an
/// `Option`: `None` if it is in doubt whether the call happened. The cause is a cancel; a test may set another.
pub fn undo_item<I: Clone, O>(item: &Item<I>, output: O) -> UndoItem<I, O> {
    UndoItem {
        saga_id: item.saga_id,
        idempotency_key: key(item.saga_id, Direction::Undo),
        action_key: item.idempotency_key.clone(),
        attempt: 1,
        input: item.input.clone(),
        output,
        cause: Cause::Cancelled {
            actor: "a test".into(),
            reason: "to see it undone".into(),
            origin: CancelOrigin::default(),
        },
        trace: item.trace.clone(),
        call: None,
    }
}

/// The sagas of a batch, as the undo of their step gets them, each with the output of its action.
///
/// # Panics
/// When there is not one output for each saga.
pub fn undo_batch<I: Clone, O>(batch: &Batch<I>, outputs: impl IntoIterator<Item = O>) -> UndoBatch<I, O> {
    let outputs: Vec<O> = outputs.into_iter().collect();
    assert_eq!(outputs.len(), batch.len(), "each saga of the batch has an output");
    batch_of(batch.iter().zip(outputs).map(|(item, output)| undo_item(item, output)))
}

/// As an engine makes it, for a step whose name is not known.
fn key(saga_id: SagaId, direction: Direction) -> String {
    format!("{saga_id}:step:{direction}")
}
