//! What a step is: an action, what it reads and gives, and how it is undone.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    definition::tx::Tx,
    model::{
        error::StepError,
        ids::SagaId,
        kinds::UndoKind,
        outcome::{Cause, Outcome, UndoOutcome},
        retry::RetryPolicy,
    },
};

/// A step that talks to this PostgreSQL only and takes effect exactly once: its SQL, its result, the fence check and
/// the move to the next step are one transaction.
///
/// It works on a **batch**: all the sagas that stand at this step now. Read once, decide in memory item by item, write
/// once. A step that has no use for that implements [`ItemStep`] and is wrapped in [`crate::PerItem`].
///
/// The engine may run a batch again from the start (after a deadlock, or split in halves to find the item that fails),
/// so the only effects are those of the SQL.
pub trait TransactionStep: Sized + Send + Sync + 'static {
    /// The stored name, kebab-case. Renaming a step is a data migration.
    const NAME: &'static str;
    /// How it is tried.
    const RETRY: RetryPolicy = RetryPolicy::TRANSACTION;
    /// What it reads: the saga's input, an earlier step's output, or a tuple of up to five of these.
    type Input: DeserializeOwned + Send + Sync;
    /// What it gives.
    type Output: Serialize + DeserializeOwned + Send + Sync;
    /// How it is undone: a type with [`UndoTransaction`] (often `Self`), [`NothingToUndo`], or [`ForwardOnly`] for the
    /// pivot and the steps after it.
    type Undo: UndoTransaction<Self>;

    /// Does it for every saga of the batch and answers for each.
    ///
    /// # Errors
    /// When the batch's SQL fails. The engine finds the item at fault by halving; only that one's attempt fails.
    fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<Self::Input>,
    ) -> impl Future<Output = Result<Outcomes<Self::Output>, StepError>> + Send;
}

/// The undo of the transaction step `S`.
pub trait UndoTransaction<S: TransactionStep>: Send + Sync + 'static {
    /// What kind of undo this is; leave it as it is.
    const KIND: UndoKind = UndoKind::HasUndo;
    /// How the undo is tried.
    const RETRY: RetryPolicy = RetryPolicy::UNDO;

    /// Takes back what `S` did, for every saga of the batch. Each finished `S` in exactly this database.
    ///
    /// # Errors
    /// As [`TransactionStep::run`].
    fn undo(
        step: &S,
        tx: &mut Tx<'_>,
        batch: &UndoBatch<S::Input, S::Output>,
    ) -> impl Future<Output = Result<UndoOutcomes, StepError>> + Send;
}

/// A step that talks to the outside world. It happens at least once; every attempt of one saga's step carries the same
/// [`Item::idempotency_key`]. That it may begin is committed before it begins, so a crash in between leaves it *in
/// doubt*: retried when going forward, undone when compensating.
pub trait CallStep: Sized + Send + Sync + 'static {
    /// The stored name, kebab-case. Renaming a step is a data migration.
    const NAME: &'static str;
    /// How it is tried.
    const RETRY: RetryPolicy = RetryPolicy::CALL;
    /// What it reads.
    type Input: DeserializeOwned + Send + Sync;
    /// What it gives.
    type Output: Serialize + DeserializeOwned + Send + Sync;
    /// How it is undone.
    type Undo: UndoCall<Self>;

    /// Makes the call. Past [`RetryPolicy::timeout`] it is dropped and counts as [`Outcome::Retry`].
    ///
    /// # Cancel safety
    /// The future may be dropped at any await; the step is then in doubt.
    fn call(&self, item: &Item<Self::Input>) -> impl Future<Output = Outcome<Self::Output>> + Send;
}

/// The undo of the call step `S`.
pub trait UndoCall<S: CallStep>: Send + Sync + 'static {
    /// What kind of undo this is; leave it as it is.
    const KIND: UndoKind = UndoKind::HasUndo;
    /// How the undo is tried.
    const RETRY: RetryPolicy = RetryPolicy::UNDO;

    /// Takes back what `S` did or may have done: [`UndoItem::output`] is `None` when that is in doubt.
    fn undo(step: &S, item: &UndoItem<S::Input, S::Output>) -> impl Future<Output = UndoOutcome> + Send;
}

/// Says that a step leaves nothing behind that would need undoing.
#[derive(Clone, Copy, Debug)]
pub enum NothingToUndo {}

/// Says that a step is the pivot or stands after it, where nothing is undone any more.
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
            async fn undo(_: &S, _: &UndoItem<S::Input, S::Output>) -> UndoOutcome {
                UndoOutcome::Done
            }
        }
    )*};
}
no_undo!(NothingToUndo => UndoKind::NothingToUndo, ForwardOnly => UndoKind::ForwardOnly);

/// A transaction step written for one saga at a time; [`crate::PerItem`] runs it over a batch.
pub trait ItemStep: Sized + Send + Sync + 'static {
    /// The stored name, kebab-case.
    const NAME: &'static str;
    /// How it is tried.
    const RETRY: RetryPolicy = RetryPolicy::TRANSACTION;
    /// What it reads.
    type Input: DeserializeOwned + Send + Sync;
    /// What it gives.
    type Output: Serialize + DeserializeOwned + Send + Sync;
    /// How it is undone.
    type Undo: UndoItemStep<Self>;

    /// Does it for one saga.
    ///
    /// # Errors
    /// When its SQL fails: the attempt fails, other sagas are not touched.
    fn run(
        &self,
        tx: &mut Tx<'_>,
        item: &Item<Self::Input>,
    ) -> impl Future<Output = Result<Outcome<Self::Output>, StepError>> + Send;
}

/// The undo of the one-item step `S`.
pub trait UndoItemStep<S: ItemStep>: Send + Sync + 'static {
    /// What kind of undo this is; leave it as it is.
    const KIND: UndoKind = UndoKind::HasUndo;
    /// How the undo is tried.
    const RETRY: RetryPolicy = RetryPolicy::UNDO;

    /// Takes back what `S` did, for one saga.
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

/// Runs a one-item step over a batch, one after the other in the same transaction.
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

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<S::Input>) -> Result<Outcomes<S::Output>, StepError> {
        let mut answers = Vec::with_capacity(batch.len());
        for item in batch {
            answers.push(self.0.run(tx, item).await?);
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
            answers.push(U::undo(&step.0, tx, item).await?);
        }
        Ok(UndoOutcomes(answers))
    }
}

/// One saga at a step, as the step's action sees it.
#[derive(Clone, Debug)]
pub struct Item<I> {
    /// The saga.
    pub saga_id: SagaId,
    /// The same for every attempt of this saga's step in this direction; give it to whoever you call.
    pub idempotency_key: String,
    /// Counted from one.
    pub attempt: u32,
    /// What the step reads.
    pub input: I,
    /// The W3C `traceparent` of whoever started the saga, for sagas and calls that this step starts.
    pub trace: Option<String>,
}

/// One saga at a step, as the step's undo sees it.
#[derive(Clone, Debug)]
pub struct UndoItem<I, O> {
    /// The saga.
    pub saga_id: SagaId,
    /// The same for every attempt of this undo.
    pub idempotency_key: String,
    /// The key that the action's attempts carried.
    pub action_key: String,
    /// Counted from one.
    pub attempt: u32,
    /// What the step's action read.
    pub input: I,
    /// What the action gave. `None` when it is in doubt whether it happened: possible for call steps only.
    pub output: Option<O>,
    /// Why the saga compensates.
    pub cause: Cause,
    /// The W3C `traceparent` of whoever started the saga.
    pub trace: Option<String>,
}

/// All the sagas that a step works on at once, in the order of their ids.
#[derive(Debug)]
pub struct BatchOf<T>(pub(crate) Vec<T>);

/// What an action gets.
pub type Batch<I> = BatchOf<Item<I>>;
/// What an undo gets.
pub type UndoBatch<I, O> = BatchOf<UndoItem<I, O>>;

impl<T> BatchOf<T> {
    /// How many sagas; never zero.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Goes over the sagas.
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
    /// Answers for every saga, in order.
    pub fn decide<O>(&self, decision: impl FnMut(&Item<I>) -> Outcome<O>) -> Outcomes<O> {
        Outcomes(self.0.iter().map(decision).collect())
    }
}

impl<I, O> BatchOf<UndoItem<I, O>> {
    /// Answers for every saga, in order.
    pub fn decide(&self, decision: impl FnMut(&UndoItem<I, O>) -> UndoOutcome) -> UndoOutcomes {
        UndoOutcomes(self.0.iter().map(decision).collect())
    }
}

/// An action's answers, one for each saga of the batch and in its order; made by [`BatchOf::decide`].
#[derive(Debug)]
pub struct Outcomes<O>(pub(crate) Vec<Outcome<O>>);

impl<O> Outcomes<O> {
    /// Goes over the answers, in the batch's order.
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

/// An undo's answers, one for each saga of the batch and in its order.
#[derive(Debug)]
pub struct UndoOutcomes(pub(crate) Vec<UndoOutcome>);
