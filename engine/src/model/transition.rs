//! Decides how a saga moves: state and event in, new state and what to do next out. No I/O, no clock, no randomness,
//! so that everything about unwinding can be tested here; the doctor replays stored histories through it.

use crate::model::{
    graph::Graph,
    kinds::{Placement, StepKind, UndoKind},
    outcome::{CancelOrigin, Cause, Counts, Failure},
    status::{Direction, Status, StepSide},
};

/// How often an attempt may be lost with its process before a person is asked.
pub(crate) const MAX_LOST_ATTEMPTS: u32 = 5;

/// The moving part of a saga.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Its status.
    pub status: Status,
    /// The place of its step in the graph.
    pub step_index: usize,
    /// The side of the step that is next, under way, or was last.
    pub direction: Direction,
    /// Attempts of this side so far, the one under way included.
    pub attempt: u32,
    /// How often in a row an attempt was lost with its process.
    pub lost_attempts: u32,
    /// Whether an earlier attempt of this call may have happened.
    pub in_doubt: bool,
    /// Why it compensates.
    pub cause: Option<Cause>,
}

impl State {
    /// The side of a step that it stands at.
    pub fn side(&self) -> StepSide {
        StepSide { direction: self.direction, step_index: self.step_index }
    }

    /// The state right before the first step.
    pub fn initial() -> Self {
        Self {
            status: Status::Running,
            step_index: 0,
            direction: Direction::Action,
            attempt: 0,
            lost_attempts: 0,
            in_doubt: false,
            cause: None,
        }
    }
}

/// Something that happened to a saga.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A worker begins an attempt (or has claimed the saga to do so).
    AttemptStarted,
    /// It was handed back before it began.
    Released,
    /// The attempt was lost with its process, and somebody takes over.
    Lost,
    /// The attempt did it.
    Done,
    /// The attempt is to be repeated.
    Retry(Counts),
    /// The last attempt did not do it either.
    Exhausted(Failure),
    /// The answer was no.
    Failed(Failure),
    /// The saga is cancelled.
    Cancel {
        /// Who cancels it.
        actor: String,
        /// Why.
        reason: String,
        /// What the cancel comes from.
        origin: CancelOrigin,
    },
    /// The deadline passed.
    DeadlinePassed,
    /// The engine can't go on by itself.
    Parked,
    /// An operator retries the dead saga.
    Retried,
    /// The dead saga ends as it is; see [`discard`] for when it had better not.
    Discarded,
}

/// What follows from a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Work on the new state's step and direction.
    Work,
    /// Work on it again, but later.
    Wait,
    /// Nothing: the saga is at rest.
    Rest,
}

/// Why an event does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The pivot is done, or may be.
    #[error("past the point of no return")]
    PastPivot,
    /// It compensates already.
    #[error("already unwinding")]
    AlreadyCompensating,
    /// It has ended.
    #[error("already ended")]
    Ended,
    /// The event makes no sense in this state; the caller has a bug.
    #[error("not possible in this state")]
    Impossible,
}

/// Moves a saga.
///
/// # Errors
/// When the event does not apply in this state; the state then stays as it is.
pub fn transition(graph: &Graph, state: &State, event: &Event) -> Result<(State, Next), Refusal> {
    match event {
        Event::AttemptStarted => {
            moving(state).map(|state| (State { attempt: state.attempt + 1, ..state }, Next::Work))
        }
        Event::Released => moving(state)
            .map(|state| (State { attempt: state.attempt.saturating_sub(1), ..state }, Next::Work)),
        Event::Lost => moving(state).map(|state| {
            let in_doubt = state.in_doubt || is_call_action(graph, &state);
            (State { lost_attempts: state.lost_attempts + 1, in_doubt, ..state }, Next::Work)
        }),
        Event::Done => Ok(done(graph, moving(state)?)),
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
        Event::Parked => moving(state).map(park),
        Event::Retried => match state.status {
            Status::Dead => Ok((revive(state), Next::Work)),
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

/// Whether the saga could still be made to compensate by a cancel or a deadline.
pub fn can_compensate(graph: &Graph, state: &State) -> bool {
    match graph.steps.get(state.step_index).map(|node| node.placement) {
        Some(Placement::BeforePivot) => true,
        Some(Placement::Pivot) => !state.in_doubt,
        Some(Placement::AfterPivot) | None => false,
    }
}

/// What it comes to when nobody is to go on with a dead saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardEffect {
    /// It can still compensate, and does, as if it had been cancelled: nothing is left standing.
    Compensate,
    /// It is behind its pivot (or may be): it ends as it is, which is as far forward as it came.
    Finish,
    /// It died while it compensated, or nobody here knows its step: to end it would leave standing what is not undone.
    Abandon,
}

/// Tells what giving up a saga comes to that is dead in this state.
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

fn done(graph: &Graph, state: State) -> (State, Next) {
    let fresh = State { attempt: 0, lost_attempts: 0, in_doubt: false, ..state };
    match fresh.direction {
        Direction::Action if fresh.step_index + 1 < graph.steps.len() => {
            (State { step_index: fresh.step_index + 1, ..fresh }, Next::Work)
        }
        Direction::Action => (State { status: Status::Completed, ..fresh }, Next::Rest),
        Direction::Undo => {
            let before = fresh.step_index;
            undo_from(graph, fresh, before)
        }
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

/// The step can't be done: compensate where that is possible, else ask a person.
fn fail(graph: &Graph, state: State, failure: &Failure) -> (State, Next) {
    match state.direction {
        Direction::Action if can_compensate(graph, &state) => {
            let step = graph.steps[state.step_index].name.clone();
            unwind(graph, &state, Cause::Failed { step, failure: failure.clone() })
        }
        Direction::Action | Direction::Undo => park(state),
    }
}

fn interrupt(graph: &Graph, state: &State, cause: impl FnOnce() -> Cause) -> Result<(State, Next), Refusal> {
    match (state.status, state.direction) {
        (Status::Running, _) | (Status::Dead, Direction::Action) if can_compensate(graph, state) => {
            Ok(unwind(graph, state, cause()))
        }
        (Status::Running, _) | (Status::Dead, Direction::Action) => Err(Refusal::PastPivot),
        (Status::Compensating, _) | (Status::Dead, Direction::Undo) => Err(Refusal::AlreadyCompensating),
        (Status::Completed | Status::Compensated, _) => Err(Refusal::Ended),
    }
}

/// Turns round: the step itself is undone only if it may have happened.
fn unwind(graph: &Graph, state: &State, cause: Cause) -> (State, Next) {
    let beyond = if state.in_doubt { state.step_index + 1 } else { state.step_index };
    let turned = State {
        status: Status::Compensating,
        direction: Direction::Undo,
        attempt: 0,
        lost_attempts: 0,
        in_doubt: false,
        cause: Some(cause),
        step_index: state.step_index,
    };
    undo_from(graph, turned, beyond)
}

/// Goes to the last step before `beyond` that has an undo; without one everything is undone.
fn undo_from(graph: &Graph, state: State, beyond: usize) -> (State, Next) {
    match graph.steps[..beyond].iter().rposition(|node| node.undo == UndoKind::HasUndo) {
        Some(step_index) => (State { step_index, attempt: 0, lost_attempts: 0, ..state }, Next::Work),
        None => (State { status: Status::Compensated, ..state }, Next::Rest),
    }
}

fn park(state: State) -> (State, Next) {
    (State { status: Status::Dead, ..state }, Next::Rest)
}

fn revive(state: &State) -> State {
    let status = match state.direction {
        Direction::Action => Status::Running,
        Direction::Undo => Status::Compensating,
    };
    State { status, attempt: 0, lost_attempts: 0, ..state.clone() }
}

#[cfg(test)]
mod tests;
