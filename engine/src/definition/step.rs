//! The traits of steps: the action, its input and output, and its undo.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    definition::{
        batch::{Batch, Item, Outcomes, UndoBatch, UndoItem, UndoOutcomes},
        tx::Tx,
    },
    model::{
        call_error::CallError,
        error::StepError,
        kinds::UndoKind,
        outcome::{Outcome, UndoOutcome},
        retry::RetryPolicy,
    },
};

/// A step that works on the engine's own PostgreSQL only. It takes effect exactly once: its SQL, its result, the fence
/// check and the saga's new state are one transaction.
///
/// It works on a **batch**: all sagas that have reached this step. Read once, decide in memory for each item, write
/// once. A step that gains nothing from batches implements [`ItemStep`] and is wrapped in [`crate::PerItem`].
///
/// The engine may run a batch again from the start (after a deadlock, or split in halves to find the item that fails),
/// so its SQL must be its only effect.
///
/// **An item that gets a no must leave nothing behind.** A *no* is any answer but `Done`: a failure, a retry, a snooze,
/// in an action, an undo or an entry step. All items of a batch share one transaction, and the engine can't tell which
/// of them a row was written for: it commits what the step wrote, for whichever item. So decide first, and write only
/// for the items that are done. (A [`PerItem`] owes nothing: the engine takes back what it wrote for an item before
/// a no.) The proof of `engine::testing` finds a step that breaks this.
pub trait TransactionStep: Sized + Send + Sync + 'static {
    /// The stored name, in kebab-case. Renaming a step is a data migration.
    const NAME: &'static str;
    /// The retry policy of the action.
    const RETRY: RetryPolicy = RetryPolicy::TRANSACTION;
    /// What the step reads: the saga's input, an earlier step's output, or a tuple of up to twelve of these, each as
    /// its type `T` or as [`Shared<T>`](crate::Shared), which is decoded once for all steps. A [label](crate::Of) tells
    /// two of one type apart.
    type Input: Send + Sync;
    /// What the step produces.
    type Output: Serialize + DeserializeOwned + Send + Sync;
    /// The undo: a type that implements [`UndoTransaction`] (often `Self`), [`NothingToUndo`], or [`ForwardOnly`] for
    /// the pivot and the steps after it.
    type Undo: UndoTransaction<Self>;
    /// Whether the engine takes back what the step wrote for an item that gets a no. Only [`PerItem`] sets it.
    #[doc(hidden)]
    const PER_ITEM: bool = false;

    /// Names the rows that the step, or its undo, locks for a saga and that other sagas may want, too, such as products
    /// by their SKU; none by default. The engine asks while another transaction's lock holds sagas of this step up: one
    /// that wants the same row waits beside the others without being tried. A name only has to be the same for the same
    /// row, and the list need not be complete: a saga that says nothing is found by splitting its batch.
    fn locks(&self, _input: &Self::Input) -> Vec<String> {
        Vec::new()
    }

    /// Runs the action for every saga of the batch and returns an outcome for each. **What it writes for an item that
    /// gets a no is committed with the rest; it must not write for such an item.**
    ///
    /// # Errors
    /// When the batch's SQL fails. The engine finds the item at fault by bisecting, and only that item's attempt fails.
    fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<Self::Input>,
    ) -> impl Future<Output = Result<Outcomes<Self::Output>, StepError>> + Send;
}

/// The undo of the transaction step `S`.
pub trait UndoTransaction<S: TransactionStep>: Send + Sync + 'static {
    /// The kind of undo. Implementations keep this default.
    const KIND: UndoKind = UndoKind::HasUndo;
    /// The retry policy of the undo.
    const RETRY: RetryPolicy = RetryPolicy::UNDO;

    /// Reverses the action of `S` for every saga of the batch. For each of them the action was committed in this
    /// database. **What it writes for an item that is to be retried is committed with the rest**, as with
    /// [`TransactionStep::run`].
    ///
    /// # Errors
    /// As [`TransactionStep::run`].
    fn undo(
        step: &S,
        tx: &mut Tx<'_>,
        batch: &UndoBatch<S::Input, S::Output>,
    ) -> impl Future<Output = Result<UndoOutcomes, StepError>> + Send;
}

/// A step that calls an outside service. The call happens at least once, and every attempt carries the same
/// [`Item::idempotency_key`]. The attempt is recorded before the call is made, so a crash during the call leaves it *in
/// doubt*: going forward the step is retried, compensating it is undone.
pub trait CallStep: Sized + Send + Sync + 'static {
    /// The stored name, in kebab-case. Renaming a step is a data migration.
    const NAME: &'static str;
    /// The retry policy of the action.
    const RETRY: RetryPolicy = RetryPolicy::CALL;
    /// What the step reads.
    type Input: Send + Sync;
    /// What the step produces.
    type Output: Serialize + DeserializeOwned + Send + Sync;
    /// The undo of the call; [`NothingToUndo`] or [`ForwardOnly`] if it has none.
    type Undo: UndoCall<Self>;

    /// Makes the call. After [`RetryPolicy::timeout`] the future is dropped, and the attempt counts as
    /// [`Outcome::Retry`].
    ///
    /// # Errors
    /// When the attempt failed for a reason that may pass: the same as [`Outcome::Retry`] with this error. The attempt
    /// counts, the call is in doubt, and the policy decides whether it is made again.
    ///
    /// # Cancel safety
    /// The future may be dropped at any await; the call is then in doubt.
    fn call(
        &self,
        item: &Item<Self::Input>,
    ) -> impl Future<Output = Result<Outcome<Self::Output>, CallError>> + Send;
}

/// The undo of the call step `S`.
pub trait UndoCall<S: CallStep>: Send + Sync + 'static {
    /// The kind of undo. Implementations keep this default.
    const KIND: UndoKind = UndoKind::HasUndo;
    /// The retry policy of the undo.
    const RETRY: RetryPolicy = RetryPolicy::UNDO;

    /// Reverses what `S` did or may have done: [`UndoItem::output`] is `None` if the call is in doubt.
    ///
    /// # Errors
    /// When the attempt failed: the same as [`UndoOutcome::Retry`] with this error.
    fn undo(
        step: &S,
        item: &UndoItem<S::Input, Option<S::Output>>,
    ) -> impl Future<Output = Result<UndoOutcome, CallError>> + Send;
}

/// The undo of a step that has no effect to reverse.
#[derive(Clone, Copy, Debug)]
pub enum NothingToUndo {}

/// The undo of the pivot and of the steps after it, which are never undone.
#[derive(Clone, Copy, Debug)]
pub enum ForwardOnly {}

macro_rules! no_undo {
    ($($marker:ty => $kind:expr),*) => {$(
        impl<S: TransactionStep> UndoTransaction<S> for $marker {
            const KIND: UndoKind = $kind;
            async fn undo(_: &S, _: &mut Tx<'_>, batch: &UndoBatch<S::Input, S::Output>) -> Result<UndoOutcomes, StepError> {
                Ok(batch.decide(|_| UndoOutcome::Done))
            }
        }
        impl<S: CallStep> UndoCall<S> for $marker {
            const KIND: UndoKind = $kind;
            async fn undo(_: &S, _: &UndoItem<S::Input, Option<S::Output>>) -> Result<UndoOutcome, CallError> {
                Ok(UndoOutcome::Done)
            }
        }
    )*};
}
no_undo!(NothingToUndo => UndoKind::NothingToUndo, ForwardOnly => UndoKind::ForwardOnly);

/// A transaction step that is written for one saga at a time; [`crate::PerItem`] runs it over a batch.
///
/// If it answers an item with a no (a failure, a retry, a snooze), nothing that it did for this item stays: neither its
/// SQL nor the sagas that it started.
pub trait ItemStep: Sized + Send + Sync + 'static {
    /// The stored name, in kebab-case. Renaming a step is a data migration.
    const NAME: &'static str;
    /// The retry policy of the action.
    const RETRY: RetryPolicy = RetryPolicy::TRANSACTION;
    /// What the step reads.
    type Input: Send + Sync;
    /// What the step produces.
    type Output: Serialize + DeserializeOwned + Send + Sync;
    /// The undo of the step; [`NothingToUndo`] or [`ForwardOnly`] if it has none.
    type Undo: UndoItemStep<Self>;

    /// As [`TransactionStep::locks`].
    fn locks(&self, _input: &Self::Input) -> Vec<String> {
        Vec::new()
    }

    /// Runs the action for one saga.
    ///
    /// # Errors
    /// When its SQL fails: this saga's attempt fails, the others are not affected.
    fn run(
        &self,
        tx: &mut Tx<'_>,
        item: &Item<Self::Input>,
    ) -> impl Future<Output = Result<Outcome<Self::Output>, StepError>> + Send;
}

/// The undo of the one-item step `S`.
pub trait UndoItemStep<S: ItemStep>: Send + Sync + 'static {
    /// The kind of undo. Implementations keep this default.
    const KIND: UndoKind = UndoKind::HasUndo;
    /// The retry policy of the undo.
    const RETRY: RetryPolicy = RetryPolicy::UNDO;

    /// Reverses what `S` did for one saga.
    ///
    /// # Errors
    /// As [`ItemStep::run`].
    fn undo(
        step: &S,
        tx: &mut Tx<'_>,
        item: &UndoItem<S::Input, S::Output>,
    ) -> impl Future<Output = Result<UndoOutcome, StepError>> + Send;
}

macro_rules! no_item_undo {
    ($($marker:ty => $kind:expr),*) => {$(
        impl<S: ItemStep> UndoItemStep<S> for $marker {
            const KIND: UndoKind = $kind;
            async fn undo(_: &S, _: &mut Tx<'_>, _: &UndoItem<S::Input, S::Output>) -> Result<UndoOutcome, StepError> {
                Ok(UndoOutcome::Done)
            }
        }
    )*};
}
no_item_undo!(NothingToUndo => UndoKind::NothingToUndo, ForwardOnly => UndoKind::ForwardOnly);

/// Runs a one-item step for each saga of a batch, one after the other in the same transaction.
///
/// A no leaves nothing behind: the batch runs behind a savepoint, and if an item used the transaction and then said no,
/// the engine goes back to it and runs the items again, each behind a savepoint of its own. A step that does this often
/// begins that way. (This holds for the step itself, not for a `PerItem` that another step calls.)
#[derive(Clone, Copy, Debug)]
pub struct PerItem<S>(pub S);

/// The undo of a [`PerItem`].
#[derive(Clone, Copy, Debug)]
pub struct PerItemUndo<U>(std::marker::PhantomData<U>);

impl<S: ItemStep> TransactionStep for PerItem<S> {
    const NAME: &'static str = S::NAME;
    const RETRY: RetryPolicy = S::RETRY;
    type Input = S::Input;
    type Output = S::Output;
    type Undo = PerItemUndo<S::Undo>;
    const PER_ITEM: bool = true;

    fn locks(&self, input: &S::Input) -> Vec<String> {
        self.0.locks(input)
    }

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<S::Input>) -> Result<Outcomes<S::Output>, StepError> {
        let mut answers = Vec::with_capacity(batch.len());
        for item in batch {
            let answer = self.0.run(tx, item).await?;
            let goes_on = tx.item_ran(!matches!(answer, Outcome::Done(_)));
            answers.push(answer);
            if !goes_on {
                break;
            }
        }
        Ok(Outcomes(answers))
    }
}

impl<S: ItemStep, U: UndoItemStep<S>> UndoTransaction<PerItem<S>> for PerItemUndo<U> {
    const KIND: UndoKind = U::KIND;
    const RETRY: RetryPolicy = U::RETRY;

    async fn undo(
        step: &PerItem<S>,
        tx: &mut Tx<'_>,
        batch: &UndoBatch<S::Input, S::Output>,
    ) -> Result<UndoOutcomes, StepError> {
        let mut answers = Vec::with_capacity(batch.len());
        for item in batch {
            let answer = U::undo(&step.0, tx, item).await?;
            let goes_on = tx.item_ran(!matches!(answer, UndoOutcome::Done));
            answers.push(answer);
            if !goes_on {
                break;
            }
        }
        Ok(UndoOutcomes(answers))
    }
}
