//! Decides how the state of a saga changes: from a state and an event it computes the new state and what to do next. No
//! I/O, no clock, no randomness, so compensation can be tested exhaustively here, and `sagaline doctor` can replay
//! stored histories.

use crate::model::{
    arms::{Arm, Arms},
    cause::{CancelOrigin, Cause},
    graph::{ChoiceNode, Graph},
    ids::SagaId,
    kinds::{Placement, StepKind},
    outcome::{Counts, Failure},
    status::{Direction, Status, StepSide},
};

/// How often in a row an attempt may be lost with its process before the saga is dead-lettered.
pub(crate) const MAX_LOST_ATTEMPTS: u32 = 5;

/// The part of a saga that transitions change.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The status of the saga.
    pub status: Status,
    /// The index of the saga's current step in the graph.
    pub step_index: usize,
    /// The side of the step that is next, in progress, or was last.
    pub direction: Direction,
    /// The attempts of this side so far, including the one in progress.
    pub attempt: u32,
    /// How often in a row an attempt was lost with its process.
    pub lost_attempts: u32,
    /// Whether an earlier attempt of this call may have happened, or the step has opened children: it is undone if the
    /// saga compensates.
    pub in_doubt: bool,
    /// Why the saga compensates.
    pub cause: Option<Cause>,
    /// The arms that the saga has taken. They stay when it compensates.
    pub arms: Arms,
    /// How often the step with children at which it stands was begun anew after it had failed.
    pub round: u32,
}

impl State {
    /// The side of the step at which the saga is.
    pub fn side(&self) -> StepSide {
        StepSide { direction: self.direction, step_index: self.step_index }
    }

    /// The state before the first step.
    pub fn initial() -> Self {
        Self {
            status: Status::Running,
            step_index: 0,
            direction: Direction::Action,
            attempt: 0,
            lost_attempts: 0,
            in_doubt: false,
            cause: None,
            arms: Arms::default(),
            round: 0,
        }
    }
}

/// Something that happened to a saga.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A worker begins an attempt (or has claimed the saga to do so).
    AttemptStarted,
    /// A claim was released before the attempt began.
    Released,
    /// The saga waits at its step for a time or a message that has not come.
    Waiting,
    /// The step has opened its first children, and waits for their ends.
    Opened,
    /// The saga that started it as its child compensates.
    ParentCompensates {
        /// The parent.
        saga: SagaId,
        /// Why it compensates.
        cause: Cause,
    },
    /// The attempt was lost with its process, and another worker takes over.
    Lost,
    /// The attempt succeeded.
    Done,
    /// The saga takes an arm of the choice at which it stands.
    Chosen(Arm),
    /// The attempt is to be repeated.
    Retry(Counts),
    /// The last attempt failed, too.
    Exhausted(Failure),
    /// The step failed for good.
    Failed(Failure),
    /// The saga is cancelled.
    Cancel {
        /// The operator or caller who cancels it.
        actor: String,
        /// The reason that they give.
        reason: String,
        /// What caused the cancel.
        origin: CancelOrigin,
    },
    /// The deadline passed.
    DeadlinePassed,
    /// The engine can't continue the saga without an operator.
    DeadLettered,
    /// An operator retries the dead saga.
    Retried,
    /// An operator discards the dead saga: it ends as it is. [`discard`] tells whether that would leave effects that
    /// are not undone.
    Discarded,
}

/// What to do after a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run the new state's side of its step.
    Work,
    /// Run the same side again, but later.
    Wait,
    /// Nothing: the saga has ended or is dead.
    Rest,
}

/// Why an event does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The pivot is done, or may be.
    #[error("past the point of no return")]
    PastPivot,
    /// The saga already compensates.
    #[error("already compensating")]
    AlreadyCompensating,
    /// The saga has ended.
    #[error("already ended")]
    Ended,
    /// The event makes no sense in this state; the caller has a bug.
    #[error("not possible in this state")]
    Impossible,
}

/// Computes the next state.
///
/// # Errors
/// When the event does not apply in this state.
pub fn transition(graph: &Graph, state: &State, event: &Event) -> Result<(State, Next), Refusal> {
    match event {
        Event::AttemptStarted => {
            moving(state).map(|state| (State { attempt: state.attempt + 1, ..state }, Next::Work))
        }
        Event::Released => moving(state)
            .map(|state| (State { attempt: state.attempt.saturating_sub(1), ..state }, Next::Work)),
        Event::Waiting if is_wait(graph, state) || has_children(graph, state) => {
            moving(state).map(|state| (State { attempt: 0, lost_attempts: 0, ..state }, Next::Wait))
        }
        Event::Opened if has_children(graph, state) && state.direction == Direction::Action => {
            moving(state).map(|state| (State { in_doubt: true, ..state }, Next::Work))
        }
        Event::ParentCompensates { saga, cause } => parent_compensates(graph, state, *saga, cause),
        Event::Lost => moving(state).map(|state| {
            let in_doubt = state.in_doubt || is_call_action(graph, &state);
            (State { lost_attempts: state.lost_attempts + 1, in_doubt, ..state }, Next::Work)
        }),
        Event::Done if choice(graph, state).is_none() => Ok(done(graph, moving(state)?)),
        Event::Waiting | Event::Done | Event::Opened => Err(Refusal::Impossible),
        Event::Chosen(arm) => {
            let choice = choice(graph, state).ok_or(Refusal::Impossible)?;
            let state = State { arms: state.arms.and(*arm), ..moving(state)? };
            Ok(go_on(graph, state, choice.first(*arm)))
        }
        Event::Retry(counts) => moving(state).map(|state| (repeated(graph, state, *counts), Next::Wait)),
        Event::Exhausted(failure) => {
            let state = repeated(graph, moving(state)?, Counts::Attempt);
            Ok(fail(graph, state, failure))
        }
        Event::Failed(failure) => match state.status {
            Status::Running => Ok(fail(graph, state.clone(), failure)),
            Status::Compensating | Status::Completed | Status::Compensated | Status::Dead => {
                Err(Refusal::Impossible)
            }
        },
        Event::Cancel { actor, reason, origin } => interrupt(graph, state, || Cause::Cancelled {
            actor: actor.clone(),
            reason: reason.clone(),
            origin: *origin,
        }),
        Event::DeadlinePassed => interrupt(graph, state, || Cause::DeadlinePassed),
        Event::DeadLettered => moving(state).map(dead_letter),
        Event::Retried => match state.status {
            Status::Dead => Ok((retry_dead(graph, state), Next::Work)),
            Status::Running | Status::Compensating | Status::Completed | Status::Compensated => {
                Err(Refusal::Impossible)
            }
        },
        Event::Discarded => match state.status {
            Status::Dead => Ok((state.clone(), Next::Rest)),
            Status::Running | Status::Compensating | Status::Completed | Status::Compensated => {
                Err(Refusal::Impossible)
            }
        },
    }
}

/// Whether a cancel or a deadline could still make the saga compensate.
pub fn can_compensate(graph: &Graph, state: &State) -> bool {
    match graph.steps.get(state.step_index).map(|node| node.placement) {
        Some(Placement::BeforePivot) => true,
        Some(Placement::Pivot) => !state.in_doubt,
        Some(Placement::AfterPivot) | None => false,
    }
}

/// What happens to a dead saga that is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardEffect {
    /// It can still compensate, and does so as if it had been cancelled: every effect is undone.
    Compensate,
    /// It is past its pivot (or may be): it ends as it is.
    Finish,
    /// It died while compensating, or this process does not know its step: ending it would leave effects that are not
    /// undone.
    Abandon,
}

/// Decides what a discard of a dead saga in this state does.
pub fn discard(graph: &Graph, state: &State) -> DiscardEffect {
    match state.direction {
        Direction::Undo => DiscardEffect::Abandon,
        Direction::Action if state.step_index >= graph.steps.len() => DiscardEffect::Abandon,
        Direction::Action if can_compensate(graph, state) => DiscardEffect::Compensate,
        Direction::Action => DiscardEffect::Finish,
    }
}

fn moving(state: &State) -> Result<State, Refusal> {
    if state.status.is_active() { Ok(state.clone()) } else { Err(Refusal::Impossible) }
}

fn is_call_action(graph: &Graph, state: &State) -> bool {
    state.direction == Direction::Action
        && graph.steps.get(state.step_index).is_some_and(|node| node.kind == StepKind::Call)
}

fn is_wait(graph: &Graph, state: &State) -> bool {
    state.direction == Direction::Action
        && graph.steps.get(state.step_index).is_some_and(|node| node.kind.is_wait())
}

fn has_children(graph: &Graph, state: &State) -> bool {
    graph.steps.get(state.step_index).is_some_and(|node| node.kind.has_children())
}

/// The choice at which the saga stands. (Choices have no undo.)
fn choice(graph: &Graph, state: &State) -> Option<ChoiceNode> {
    graph.steps.get(state.step_index).filter(|_| state.direction == Direction::Action)?.choice
}

fn done(graph: &Graph, state: State) -> (State, Next) {
    let at = state.step_index;
    match state.direction {
        Direction::Action => go_on(graph, state, graph.next(at)),
        Direction::Undo => undo_from(graph, fresh(state), at),
    }
}

/// The state before the first attempt of a side.
fn fresh(state: State) -> State {
    State { attempt: 0, lost_attempts: 0, in_doubt: false, round: 0, ..state }
}

/// Goes on with this step; behind the last one the saga has completed.
fn go_on(graph: &Graph, state: State, next: usize) -> (State, Next) {
    let fresh = fresh(state);
    if next < graph.steps.len() {
        (State { step_index: next, ..fresh }, Next::Work)
    } else {
        (State { status: Status::Completed, ..fresh }, Next::Rest)
    }
}

fn repeated(graph: &Graph, state: State, counts: Counts) -> State {
    match counts {
        Counts::Attempt => {
            let in_doubt = state.in_doubt || is_call_action(graph, &state);
            State { lost_attempts: 0, in_doubt, ..state }
        }
        Counts::Snooze => State { lost_attempts: 0, attempt: state.attempt.saturating_sub(1), ..state },
    }
}

/// The step failed for good: compensates if possible, else dead-letters the saga.
fn fail(graph: &Graph, state: State, failure: &Failure) -> (State, Next) {
    match state.direction {
        Direction::Action if can_compensate(graph, &state) => {
            let step = graph.steps[state.step_index].name.clone();
            compensate(graph, &state, Cause::Failed { step, failure: failure.clone() })
        }
        Direction::Action | Direction::Undo => dead_letter(state),
    }
}

fn interrupt(graph: &Graph, state: &State, cause: impl FnOnce() -> Cause) -> Result<(State, Next), Refusal> {
    match (state.status, state.direction) {
        (Status::Running, _) | (Status::Dead, Direction::Action) if can_compensate(graph, state) => {
            Ok(compensate(graph, state, cause()))
        }
        (Status::Running, _) | (Status::Dead, Direction::Action) => Err(Refusal::PastPivot),
        (Status::Compensating, _) | (Status::Dead, Direction::Undo) => Err(Refusal::AlreadyCompensating),
        (Status::Completed | Status::Compensated, _) => Err(Refusal::Ended),
    }
}

/// A child that has completed is undone from behind its last step. One that has a pivot can't be.
fn parent_compensates(
    graph: &Graph,
    state: &State,
    saga: SagaId,
    cause: &Cause,
) -> Result<(State, Next), Refusal> {
    let cause = Cause::Parent { saga_id: saga, cause: Box::new(cause.clone()) };
    match state.status {
        Status::Completed if graph.pivot().is_some() => Err(Refusal::PastPivot),
        Status::Completed => Ok(undo_from(graph, turned(state, cause), graph.steps.len())),
        Status::Running | Status::Compensating | Status::Compensated | Status::Dead => {
            interrupt(graph, state, || cause)
        }
    }
}

/// Starts compensating. The current step itself is undone only if it may have happened.
fn compensate(graph: &Graph, state: &State, cause: Cause) -> (State, Next) {
    let beyond = if state.in_doubt { state.step_index + 1 } else { state.step_index };
    undo_from(graph, turned(state, cause), beyond)
}

/// The state in which the saga begins to compensate, before it is known with which step.
fn turned(state: &State, cause: Cause) -> State {
    State {
        status: Status::Compensating,
        direction: Direction::Undo,
        attempt: 0,
        lost_attempts: 0,
        in_doubt: false,
        cause: Some(cause),
        step_index: state.step_index,
        arms: state.arms.clone(),
        round: 0,
    }
}

/// Moves to the last step with an undo that the saga passed before it came to `beyond`; if there is none, it is
/// compensated.
fn undo_from(graph: &Graph, state: State, beyond: usize) -> (State, Next) {
    match graph.last_undone(&state.arms, beyond) {
        Some(step_index) => (State { step_index, attempt: 0, lost_attempts: 0, ..state }, Next::Work),
        None => (State { status: Status::Compensated, ..state }, Next::Rest),
    }
}

fn dead_letter(state: State) -> (State, Next) {
    (State { status: Status::Dead, ..state }, Next::Rest)
}

fn retry_dead(graph: &Graph, state: &State) -> State {
    // Behind the pivot the children that did not complete are opened anew, unless that is data. Before it, the first
    // one fails the step.
    let node = graph.steps.get(state.step_index).filter(|node| node.placement == Placement::AfterPivot);
    let is_settled = node.and_then(|node| node.children.as_ref()).is_none_or(|children| children.settled);
    let begins_anew = state.direction == Direction::Action && state.in_doubt && !is_settled;
    let round = state.round + u32::from(begins_anew);
    let status = match state.direction {
        Direction::Action => Status::Running,
        Direction::Undo => Status::Compensating,
    };
    State { status, attempt: 0, lost_attempts: 0, round, ..state.clone() }
}

#[cfg(test)]
pub(crate) mod tests;
