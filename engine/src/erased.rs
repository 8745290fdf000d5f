//! Steps with their types erased, so that a definition can hold them in one list.

use std::{future::Future, pin::Pin, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    error::StepError,
    ids::SagaId,
    outcome::{Cause, Outcome, UndoOutcome},
    status::Direction,
    step::{BatchOf, CallStep, Item, TransactionStep, UndoCall, UndoItem, UndoTransaction},
    text::json_holds_nul,
    trail::Values,
    tx::Tx,
};

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
pub(crate) type Reader<I> = fn(&Values) -> Result<I, String>;

/// One saga at one step, with all it has stored so far.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) saga_id: SagaId,
    pub(crate) step: String,
    pub(crate) attempt: u32,
    /// Place zero is the saga's input; place `n + 1` is the output of step `n`.
    pub(crate) values: Vec<Option<Arc<RawValue>>>,
    pub(crate) cause: Option<Cause>,
    pub(crate) trace: Option<Arc<str>>,
    /// Makes the key another one for every attempt; set by oracle tests alone.
    pub(crate) salt: Option<u32>,
}

impl Visit {
    fn key(&self, direction: Direction) -> String {
        match self.salt {
            None => format!("{}:{}:{direction}", self.saga_id, self.step),
            Some(salt) => format!("{}:{}:{direction}:{salt}", self.saga_id, self.step),
        }
    }
}

/// A step's answer with its output written as JSON; an undo's `Done` carries none.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Outcome(Outcome<Option<Arc<RawValue>>>),
    /// What is stored can't be read by this code, and nothing was done: a person has to look.
    Unreadable(String),
    /// It was done, or may have been, and its output can't be stored: a person has to look.
    Unwritable(String),
}

impl Answer {
    pub(crate) fn done(output: Option<Arc<RawValue>>) -> Self {
        Self::Outcome(Outcome::Done(output))
    }

    fn unwritable(&self) -> Option<&str> {
        match self {
            Self::Unwritable(reason) => Some(reason),
            Self::Outcome(_) | Self::Unreadable(_) => None,
        }
    }
}

pub(crate) trait Action: Send + Sync {
    /// Runs a transaction step's action or undo over a batch; the answers are in the order of `visits`.
    fn in_transaction<'a>(
        &'a self,
        direction: Direction,
        tx: &'a mut Tx<'_>,
        visits: &'a [Visit],
    ) -> BoxFuture<'a, Result<Vec<Answer>, StepError>>;

    /// Runs a call step's action or undo for one saga.
    fn call<'a>(&'a self, direction: Direction, visit: &'a Visit) -> BoxFuture<'a, Answer>;
}

pub(crate) struct TransactionAction<S: TransactionStep> {
    pub(crate) step: S,
    pub(crate) reader: Reader<S::Input>,
    pub(crate) own_place: usize,
}

impl<S: TransactionStep> TransactionAction<S> {
    async fn run(&self, tx: &mut Tx<'_>, visits: &[Visit]) -> Result<Vec<Answer>, StepError> {
        let (items, slots) = readable(visits, |visit| item(visit, self.reader));
        if items.is_empty() {
            return Ok(merge(slots, Vec::new()));
        }
        let batch = BatchOf(items);
        let outcomes = self.step.run(tx, &batch).await?.0;
        same_length::<S>(outcomes.len(), batch.len())?;
        let answers: Vec<Answer> = outcomes.into_iter().map(write).collect();
        // What it did is undone with the transaction, and the saga at fault is found by splitting.
        if let Some(reason) = answers.iter().find_map(Answer::unwritable) {
            return Err(StepError::Other(reason.to_owned()));
        }
        Ok(merge(slots, answers))
    }

    async fn undo(&self, tx: &mut Tx<'_>, visits: &[Visit]) -> Result<Vec<Answer>, StepError> {
        let (items, slots) = readable(visits, |visit| {
            let item = undo_item(visit, self.reader, self.own_place)?;
            if item.output.is_none() {
                return Err(format!("the output of `{}` is missing", S::NAME));
            }
            Ok(item)
        });
        if items.is_empty() {
            return Ok(merge(slots, Vec::new()));
        }
        let batch = BatchOf(items);
        let outcomes = <S::Undo as UndoTransaction<S>>::undo(&self.step, tx, &batch).await?.0;
        same_length::<S>(outcomes.len(), batch.len())?;
        Ok(merge(slots, outcomes.into_iter().map(undo_answer).collect()))
    }
}

impl<S: TransactionStep> Action for TransactionAction<S> {
    fn in_transaction<'a>(
        &'a self,
        direction: Direction,
        tx: &'a mut Tx<'_>,
        visits: &'a [Visit],
    ) -> BoxFuture<'a, Result<Vec<Answer>, StepError>> {
        match direction {
            Direction::Action => Box::pin(self.run(tx, visits)),
            Direction::Undo => Box::pin(self.undo(tx, visits)),
        }
    }

    fn call<'a>(&'a self, _: Direction, _: &'a Visit) -> BoxFuture<'a, Answer> {
        Box::pin(async { Answer::Unreadable(format!("`{}` is a transaction step, not a call", S::NAME)) })
    }
}

pub(crate) struct CallAction<S: CallStep> {
    pub(crate) step: S,
    pub(crate) reader: Reader<S::Input>,
    pub(crate) own_place: usize,
}

impl<S: CallStep> Action for CallAction<S> {
    fn in_transaction<'a>(
        &'a self,
        _: Direction,
        _: &'a mut Tx<'_>,
        _: &'a [Visit],
    ) -> BoxFuture<'a, Result<Vec<Answer>, StepError>> {
        Box::pin(async { Err(StepError::Other(format!("`{}` is a call step, not a transaction", S::NAME))) })
    }

    fn call<'a>(&'a self, direction: Direction, visit: &'a Visit) -> BoxFuture<'a, Answer> {
        match direction {
            Direction::Action => Box::pin(async move {
                match item(visit, self.reader) {
                    Ok(item) => write(self.step.call(&item).await),
                    Err(reason) => Answer::Unreadable(reason),
                }
            }),
            Direction::Undo => Box::pin(async move {
                match undo_item(visit, self.reader, self.own_place) {
                    Ok(item) => undo_answer(<S::Undo as UndoCall<S>>::undo(&self.step, &item).await),
                    Err(reason) => Answer::Unreadable(reason),
                }
            }),
        }
    }
}

fn item<I>(visit: &Visit, reader: Reader<I>) -> Result<Item<I>, String> {
    Ok(Item {
        saga_id: visit.saga_id,
        idempotency_key: visit.key(Direction::Action),
        attempt: visit.attempt,
        input: reader(&visit.values)?,
        trace: visit.trace.as_deref().map(str::to_owned),
    })
}

fn undo_item<I, O: serde::de::DeserializeOwned>(
    visit: &Visit,
    reader: Reader<I>,
    own_place: usize,
) -> Result<UndoItem<I, O>, String> {
    let output = match visit.values.get(own_place).and_then(Option::as_deref) {
        None => None,
        Some(raw) => Some(
            serde_json::from_str(raw.get())
                .map_err(|error| format!("the stored output of `{}` can't be read: {error}", visit.step))?,
        ),
    };
    let cause = visit.cause.clone().ok_or("the saga unwinds, but its cause is not stored")?;
    Ok(UndoItem {
        saga_id: visit.saga_id,
        idempotency_key: visit.key(Direction::Undo),
        action_key: visit.key(Direction::Action),
        attempt: visit.attempt,
        input: reader(&visit.values)?,
        output,
        cause,
        trace: visit.trace.as_deref().map(str::to_owned),
    })
}

/// Splits visits into those whose stored data can be read and, for every visit, either its slot or the answer that it
/// can't.
fn readable<T>(
    visits: &[Visit],
    read: impl Fn(&Visit) -> Result<T, String>,
) -> (Vec<T>, Vec<Option<Answer>>) {
    let mut items = Vec::with_capacity(visits.len());
    let mut slots = Vec::with_capacity(visits.len());
    for visit in visits {
        match read(visit) {
            Ok(item) => {
                items.push(item);
                slots.push(None);
            }
            Err(reason) => slots.push(Some(Answer::Unreadable(reason))),
        }
    }
    (items, slots)
}

fn merge(slots: Vec<Option<Answer>>, answers: Vec<Answer>) -> Vec<Answer> {
    let mut answers = answers.into_iter();
    let mut next = || answers.next().unwrap_or_else(|| Answer::Unreadable("the step gave no answer".into()));
    slots.into_iter().map(|slot| slot.unwrap_or_else(&mut next)).collect()
}

fn same_length<S: TransactionStep>(answers: usize, items: usize) -> Result<(), StepError> {
    if answers == items {
        return Ok(());
    }
    Err(StepError::Other(format!("step `{}` gave {answers} answers for {items} sagas", S::NAME)))
}

fn write<O: Serialize>(outcome: Outcome<O>) -> Answer {
    match outcome {
        Outcome::Done(output) => match serde_json::value::to_raw_value(&output) {
            Ok(raw) if json_holds_nul(raw.get()) => {
                Answer::Unwritable("the output holds a NUL character, which PostgreSQL can't store".into())
            }
            Ok(raw) => Answer::done(Some(Arc::from(raw))),
            Err(error) => Answer::Unwritable(format!("the output can't be written as JSON: {error}")),
        },
        Outcome::Retry(retry) => Answer::Outcome(Outcome::Retry(retry)),
        Outcome::Fail(failure) => Answer::Outcome(Outcome::Fail(failure)),
    }
}

fn undo_answer(outcome: UndoOutcome) -> Answer {
    match outcome {
        UndoOutcome::Done => Answer::done(None),
        UndoOutcome::Retry(retry) => Answer::Outcome(Outcome::Retry(retry)),
    }
}
