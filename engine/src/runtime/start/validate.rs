//! Validates a new saga before it is inserted.

use std::{sync::Arc, time::Duration};

use crate::{
    definition::{new_saga::NewSaga, saga::Definition, start_context::StartContext},
    model::{
        begins::Begins,
        child::ChildOf,
        error::StartError,
        graph::WaitNode,
        ids::SagaId,
        outcome::Failure,
        signal::SignalError,
        stored_value::StoredValue,
        transition::{Event, State, transition},
    },
    runtime::{core::Core, send_signal, slots::JobSlots},
    store::starts::NewSagaRow,
};

/// A start whose definition is known and whose input is valid.
pub(crate) struct ValidatedStart {
    pub(crate) id: SagaId,
    pub(crate) definition: Arc<Definition>,
    pub(crate) input: StoredValue,
    pub(crate) business_key: Option<String>,
    pub(crate) trace: Option<String>,
    /// For the entry step.
    pub(crate) context: StartContext,
    /// The state right after the start: past the entry step, if there is one.
    pub(crate) state: State,
    /// When it goes on, if not at once.
    pub(crate) begins: Option<Begins>,
    /// Whether it sleeps until then.
    pub(crate) sleeps: bool,
    /// Its own deadline.
    pub(crate) deadline: Option<Duration>,
    /// Its place among the children of another saga.
    pub(crate) child_of: Option<ChildOf>,
    /// A slot in a feed of this process, if the saga is claimed in the commit that starts it.
    pub(crate) slots: Option<JobSlots>,
}

impl ValidatedStart {
    pub(crate) fn has_entry(&self) -> bool {
        self.definition.graph.steps[0].entry
    }

    /// The row to insert.
    pub(crate) fn row(&self) -> NewSagaRow<'_> {
        let graph = &self.definition.graph;
        let deadline_ms = self
            .deadline
            .or(graph.deadline)
            .map(|deadline| i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX));
        NewSagaRow {
            id: self.id.0,
            definition: &graph.name,
            graph_hash: &graph.hash,
            queue: &graph.queue,
            status: self.state.status.name(),
            step: &graph.steps[self.state.step_index].name,
            seq: i32::from(self.has_entry()),
            held: self.slots.is_some(),
            deadline_ms,
            business_key: self.business_key.as_deref(),
            trace: self.trace.as_deref(),
            input: self.input.stored().get(),
            child_of: self.child_of.as_ref(),
        }
    }
}

/// Finds the definition of a new saga and checks its input, without the database.
///
/// # Errors
/// [`StartError`] when this process does not know the definition, or the input is wrong.
pub(crate) fn check<'a>(core: &'a Core, new: &NewSaga) -> Result<&'a Arc<Definition>, StartError> {
    let definition = core
        .definitions
        .newest(&new.definition)
        .ok_or_else(|| StartError::UnknownDefinition(new.definition.to_string()))?;
    if !new.checked {
        let input = new.input.as_ref().map_err(StartError::bad_input)?;
        input.check_size(core.settings.max_payload)?;
        definition.check_input(input, new.typed)?;
        // PostgreSQL can't store NUL. Refusing it here is better than failing the whole batch.
        if new.business_key.as_deref().is_some_and(|key| key.contains('\0')) {
            return Err(StartError::bad_input("the NUL character can't be stored"));
        }
        check_times(new, definition)?;
        if let Some(signal) = &new.signal {
            send_signal::check(core, definition, signal).map_err(|error| refused_signal(&error))?;
        }
    }
    Ok(definition)
}

/// Checks when the saga is to begin, and its own deadline.
fn check_times(new: &NewSaga, definition: &Definition) -> Result<(), StartError> {
    let delay = new.begins.and_then(Begins::delay);
    if [delay, new.deadline].into_iter().flatten().any(|time| time > WaitNode::LONGEST) {
        return Err(StartError::bad_input("a saga is delayed for ten years at most, and so is its deadline"));
    }
    match new.deadline {
        Some(deadline) => {
            let fits = definition.graph.check_waits(Some(deadline));
            fits.map_err(|error| StartError::bad_input(error.to_string()))
        }
        None => Ok(()),
    }
}

/// The refusal of a start because of a signal that was to be sent with it.
pub(super) fn refused_signal(error: &SignalError) -> StartError {
    StartError::Refused(Failure::new(Failure::SIGNAL_REFUSED, error.to_string()))
}

/// Prepares a new saga to be inserted, after a [`check`].
pub(super) fn validate(core: &Core, new: &NewSaga) -> Result<ValidatedStart, StartError> {
    let definition = check(core, new)?;
    let input = new.input.clone().map_err(StartError::bad_input)?;
    let mut state = State::initial();
    if definition.graph.steps[0].entry
        && let Ok((entered, _)) = transition(&definition.graph, &state, &Event::Done)
    {
        state = entered;
    }
    Ok(ValidatedStart {
        id: new.id,
        definition: definition.clone(),
        input,
        business_key: new.business_key.clone(),
        trace: new.trace.clone(),
        context: new.context.clone(),
        state,
        begins: new.begins,
        sleeps: false,
        deadline: new.deadline,
        child_of: new.child_of.clone(),
        slots: None,
    })
}
