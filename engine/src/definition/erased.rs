//! Steps with their types erased, so that a definition can hold them in one list.

use futures::future::BoxFuture;
use serde::Serialize;

use crate::{
    definition::{
        batch::{BatchOf, Item, UndoItem},
        children::ChildrenAction,
        choice::ChoiceAction,
        invocation::Invocation,
        no_rate::NoRate,
        step::{CallStep, TransactionStep, UndoCall, UndoTransaction},
        step_answer::StepAnswer,
        step_input::StepInput,
        tx::Tx,
        wait::WaitAction,
    },
    model::{
        error::StepError,
        outcome::{Outcome, UndoOutcome},
        status::Direction,
        stored_value::{StoredValue, StoredValues},
    },
};

pub(crate) trait ErasedStep: Send + Sync {
    /// The stored name.
    fn name(&self) -> &str;

    /// How often this side of the step says no, if what it writes before is taken back; `None` for batch steps and
    /// calls.
    fn no_rate(&self, _: Direction) -> Option<&NoRate> {
        None
    }

    /// Reads what this side of the step reads of a saga's stored values.
    ///
    /// # Errors
    /// What can't be read, and why.
    fn read(&self, direction: Direction, values: &StoredValues) -> Result<(), String>;

    /// Reads the step's own output, if it is stored.
    ///
    /// # Errors
    /// What can't be read, and why.
    fn read_output(&self, values: &StoredValues) -> Result<(), String>;

    /// The rows that the step names as those that it locks for a saga with these stored values.
    fn locks(&self, _: &StoredValues) -> Vec<String> {
        Vec::new()
    }

    /// Runs a transaction step's action or undo over a batch; the answers are in the order of `invocations`. There is
    /// none if the step stopped at an item that [taints](crate::definition::tx::Items::tainted) the transaction.
    fn in_transaction<'a>(
        &'a self,
        _: Direction,
        _: &'a mut Tx<'_>,
        _: &'a [Invocation],
    ) -> BoxFuture<'a, Result<Vec<StepAnswer>, StepError>> {
        Box::pin(async { Err(StepError::Other(format!("`{}` is no transaction step", self.name()))) })
    }

    /// Runs a call step's action or undo for one saga.
    fn call<'a>(&'a self, _: Direction, _: &'a Invocation) -> BoxFuture<'a, StepAnswer> {
        Box::pin(async { StepAnswer::InputUnreadable(format!("`{}` is no call step", self.name())) })
    }

    /// The step as one that waits; `None` for all others.
    fn wait(&self) -> Option<&WaitAction> {
        None
    }

    /// The step as one with children; `None` for all others.
    fn children(&self) -> Option<&ChildrenAction> {
        None
    }

    /// The step as a choice; `None` for all others.
    fn choice(&self) -> Option<&ChoiceAction> {
        None
    }
}

pub(crate) struct TransactionAction<S: TransactionStep> {
    step: S,
    input: StepInput<S::Input>,
    output_index: usize,
    action_noes: NoRate,
    undo_noes: NoRate,
}

impl<S: TransactionStep> TransactionAction<S> {
    pub(crate) fn new(step: S, input: StepInput<S::Input>, output_index: usize) -> Self {
        Self { step, input, output_index, action_noes: NoRate::default(), undo_noes: NoRate::default() }
    }

    async fn run(&self, tx: &mut Tx<'_>, invocations: &[Invocation]) -> Result<Vec<StepAnswer>, StepError> {
        let (items, slots) = readable(invocations, |invocation| item(invocation, &self.input));
        if items.is_empty() {
            return Ok(merge(S::NAME, slots, Vec::new()));
        }
        let batch = BatchOf(items);
        let outcomes = self.step.run(tx, &batch).await?.0;
        if outcomes.len() < batch.len() && tx.items().tainted {
            return Ok(Vec::new());
        }
        same_length::<S>(outcomes.len(), batch.len())?;
        let answers: Vec<StepAnswer> = outcomes.into_iter().map(|outcome| write(S::NAME, outcome)).collect();
        // The transaction is rolled back, and bisecting finds the saga at fault.
        if let Some(reason) = answers.iter().find_map(StepAnswer::unstorable) {
            return Err(StepError::Other(reason.to_owned()));
        }
        Ok(merge(S::NAME, slots, answers))
    }

    async fn undo(&self, tx: &mut Tx<'_>, invocations: &[Invocation]) -> Result<Vec<StepAnswer>, StepError> {
        let (items, slots) = readable(invocations, |invocation| {
            let output = output(&invocation.values, self.output_index, S::NAME)?
                .ok_or_else(|| format!("the output of `{}` is missing", S::NAME))?;
            undo_item(invocation, &self.input, output)
        });
        if items.is_empty() {
            return Ok(merge(S::NAME, slots, Vec::new()));
        }
        let batch = BatchOf(items);
        let outcomes = <S::Undo as UndoTransaction<S>>::undo(&self.step, tx, &batch).await?.0;
        if outcomes.len() < batch.len() && tx.items().tainted {
            return Ok(Vec::new());
        }
        same_length::<S>(outcomes.len(), batch.len())?;
        Ok(merge(S::NAME, slots, outcomes.into_iter().map(undo_answer).collect()))
    }
}

impl<S: TransactionStep> ErasedStep for TransactionAction<S> {
    fn name(&self) -> &str {
        S::NAME
    }

    fn no_rate(&self, direction: Direction) -> Option<&NoRate> {
        let rate = match direction {
            Direction::Action => &self.action_noes,
            Direction::Undo => &self.undo_noes,
        };
        S::PER_ITEM.then_some(rate)
    }

    fn read(&self, direction: Direction, values: &StoredValues) -> Result<(), String> {
        self.input.read(values)?;
        match direction {
            Direction::Action => Ok(()),
            Direction::Undo => self.read_output(values),
        }
    }

    fn read_output(&self, values: &StoredValues) -> Result<(), String> {
        output::<S::Output>(values, self.output_index, S::NAME).map(drop)
    }

    fn locks(&self, values: &StoredValues) -> Vec<String> {
        // What can't be read is found when the step runs.
        self.input.read(values).map(|input| self.step.locks(&input)).unwrap_or_default()
    }

    fn in_transaction<'a>(
        &'a self,
        direction: Direction,
        tx: &'a mut Tx<'_>,
        invocations: &'a [Invocation],
    ) -> BoxFuture<'a, Result<Vec<StepAnswer>, StepError>> {
        match direction {
            Direction::Action => Box::pin(self.run(tx, invocations)),
            Direction::Undo => Box::pin(self.undo(tx, invocations)),
        }
    }
}

pub(crate) struct CallAction<S: CallStep> {
    pub(crate) step: S,
    pub(crate) input: StepInput<S::Input>,
    pub(crate) output_index: usize,
}

impl<S: CallStep> CallAction<S> {
    async fn make(&self, invocation: &Invocation) -> StepAnswer {
        let item = match item(invocation, &self.input) {
            Ok(item) => item,
            Err(reason) => return StepAnswer::InputUnreadable(reason),
        };
        let outcome = self.step.call(&item).await;
        write(S::NAME, outcome.unwrap_or_else(|error| Outcome::Retry(error.into())))
    }

    async fn undo(&self, invocation: &Invocation) -> StepAnswer {
        let item = output(&invocation.values, self.output_index, S::NAME)
            .and_then(|output| undo_item(invocation, &self.input, output));
        let item = match item {
            Ok(item) => item,
            Err(reason) => return StepAnswer::InputUnreadable(reason),
        };
        let outcome = <S::Undo as UndoCall<S>>::undo(&self.step, &item).await;
        undo_answer(outcome.unwrap_or_else(|error| UndoOutcome::Retry(error.into())))
    }
}

impl<S: CallStep> ErasedStep for CallAction<S> {
    fn name(&self) -> &str {
        S::NAME
    }

    fn read(&self, direction: Direction, values: &StoredValues) -> Result<(), String> {
        self.input.read(values)?;
        match direction {
            Direction::Action => Ok(()),
            Direction::Undo => self.read_output(values),
        }
    }

    fn read_output(&self, values: &StoredValues) -> Result<(), String> {
        output::<S::Output>(values, self.output_index, S::NAME).map(drop)
    }

    fn call<'a>(&'a self, direction: Direction, invocation: &'a Invocation) -> BoxFuture<'a, StepAnswer> {
        match direction {
            Direction::Action => Box::pin(self.make(invocation)),
            Direction::Undo => Box::pin(self.undo(invocation)),
        }
    }
}

fn item<I>(invocation: &Invocation, input: &StepInput<I>) -> Result<Item<I>, String> {
    Ok(Item {
        saga_id: invocation.saga_id,
        idempotency_key: invocation.key(Direction::Action),
        attempt: invocation.attempt,
        input: input.read(&invocation.values)?,
        trace: invocation.trace.as_deref().map(str::to_owned),
        context: invocation.context.clone(),
        call: invocation.call.clone(),
    })
}

/// Reads the output of a step, if it is stored.
fn output<O: serde::de::DeserializeOwned>(
    values: &StoredValues,
    output_index: usize,
    step: &str,
) -> Result<Option<O>, String> {
    let Some(stored) = values.get(output_index) else { return Ok(None) };
    let unreadable = |error| format!("the stored output of `{step}` can't be read: {error}");
    stored.decode().map(Some).map_err(unreadable)
}

fn undo_item<I, O>(
    invocation: &Invocation,
    input: &StepInput<I>,
    output: O,
) -> Result<UndoItem<I, O>, String> {
    let cause = invocation.cause.clone().ok_or("the saga compensates, but its cause is not stored")?;
    Ok(UndoItem {
        saga_id: invocation.saga_id,
        idempotency_key: invocation.key(Direction::Undo),
        action_key: invocation.key(Direction::Action),
        attempt: invocation.attempt,
        input: input.read(&invocation.values)?,
        output,
        cause,
        trace: invocation.trace.as_deref().map(str::to_owned),
        call: invocation.call.clone(),
    })
}

/// Separates the invocations whose stored data can be read. For every invocation, returns its index among them or the
/// answer that its data is unreadable.
fn readable<T>(
    invocations: &[Invocation],
    read: impl Fn(&Invocation) -> Result<T, String>,
) -> (Vec<T>, Vec<Option<StepAnswer>>) {
    let mut items = Vec::with_capacity(invocations.len());
    let mut slots = Vec::with_capacity(invocations.len());
    for invocation in invocations {
        match read(invocation) {
            Ok(item) => {
                items.push(item);
                slots.push(None);
            }
            Err(reason) => slots.push(Some(StepAnswer::InputUnreadable(reason))),
        }
    }
    (items, slots)
}

fn merge(step: &str, slots: Vec<Option<StepAnswer>>, answers: Vec<StepAnswer>) -> Vec<StepAnswer> {
    let mut answers = answers.into_iter();
    let none = || StepAnswer::InputUnreadable(format!("`{step}` gave no answer"));
    let mut next = || answers.next().unwrap_or_else(none);
    slots.into_iter().map(|slot| slot.unwrap_or_else(&mut next)).collect()
}

fn same_length<S: TransactionStep>(answers: usize, items: usize) -> Result<(), StepError> {
    if answers == items {
        return Ok(());
    }
    Err(StepError::Other(format!("step `{}` gave {answers} answers for {items} sagas", S::NAME)))
}

fn write<O: Serialize>(step: &str, outcome: Outcome<O>) -> StepAnswer {
    match outcome {
        Outcome::Done(output) => match StoredValue::encode(&output) {
            Ok(output) => StepAnswer::done(Some(output)),
            Err(error) => StepAnswer::OutputUnstorable(format!("the output of `{step}` {error}")),
        },
        Outcome::Retry(retry) => StepAnswer::Outcome(Outcome::Retry(retry)),
        Outcome::Fail(failure) => StepAnswer::Outcome(Outcome::Fail(failure)),
    }
}

fn undo_answer(outcome: UndoOutcome) -> StepAnswer {
    match outcome {
        UndoOutcome::Done => StepAnswer::done(None),
        UndoOutcome::Retry(retry) => StepAnswer::Outcome(Outcome::Retry(retry)),
    }
}
