//! The cases: every change, every state in which a run is left, and what is wished for it; and what has to come of them.

use std::fmt;

use engine::{DeadJobId, SagaId};

use super::{
    builds::Ask,
    trips::{CHANGES, Change, Left, steps},
};

/// What is wished for a run while only the new build is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// That it goes on.
    GoOn,
    Cancel,
    /// That its dead job is given up.
    Discard,
}

const RUNS: [Left; 9] = [
    Left::Queued,
    Left::Postponed,
    Left::InDoubt,
    Left::Vanished,
    Left::Compensating,
    Left::CompensatingCall,
    Left::VanishedInUndo,
    Left::Asleep,
    Left::AtSignal,
];
const DEAD: [Left; 3] = [Left::DeadAtPivot, Left::DeadBehind, Left::DeadInUndo];

/// A change, a state and a wish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) change: &'static Change,
    pub(super) left: Left,
    pub(super) wish: Wish,
}

/// Every change with every state and every wish.
pub(super) fn all() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for change in &CHANGES {
        let runs = RUNS.iter().flat_map(|left| [Wish::GoOn, Wish::Cancel].map(|wish| (*left, wish)));
        let dead =
            DEAD.iter().flat_map(|left| [Wish::GoOn, Wish::Cancel, Wish::Discard].map(|wish| (*left, wish)));
        kinds.extend(runs.chain(dead).map(|(left, wish)| Kind { change, left, wish }));
    }
    kinds
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) kind: Kind,
    pub(super) id: SagaId,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {:?}, {:?}", self.kind.change.saga, self.kind.left, self.kind.wish)
    }
}

impl Case {
    /// Whether it was cancelled by the old build before the new one came.
    pub(super) fn is_cancelled_before(&self) -> bool {
        matches!(self.kind.left, Left::Compensating | Left::CompensatingCall)
    }

    pub(super) fn is_dead(&self) -> bool {
        DEAD.contains(&self.kind.left)
    }

    fn is_waiting(&self) -> bool {
        matches!(self.kind.left, Left::Asleep | Left::AtSignal)
    }

    /// Whether it could be claimed when the new build comes, or once the lease of its holder is over.
    pub(super) fn is_due(&self) -> bool {
        !self.is_dead() && !self.is_waiting()
    }

    /// What the new build is asked, and how its answer begins.
    pub(super) fn asks_of_new(&self, job: Option<&DeadJobId>) -> Vec<(Ask, &'static str)> {
        let cancel = Ask::Cancel(self.id);
        match (self.kind.left, self.kind.wish, job) {
            (Left::Postponed | Left::InDoubt | Left::Asleep | Left::AtSignal, Wish::Cancel, _) => {
                vec![(cancel, "Ok(Compensating)")]
            }
            // Only the claim that follows tells whether the call was made. What would end the run at once, or revive it, is
            // left to a process that can tell its observer.
            (Left::Vanished | Left::Queued | Left::DeadAtPivot, Wish::Cancel, _) => {
                vec![(cancel, "Ok(Requested)")]
            }
            (Left::Compensating | Left::CompensatingCall | Left::VanishedInUndo, Wish::Cancel, _) => {
                vec![(cancel, "Ok(AlreadyCompensating)")]
            }
            (Left::DeadBehind, Wish::Cancel, _) => vec![(cancel, "Err(PastPivot")],
            (Left::DeadInUndo, Wish::Cancel, _) => vec![(cancel, "Ok(AlreadyCompensating)")],
            (Left::Asleep, _, _) => vec![(Ask::SkipWait(self.id), "Ok(\"nap\")")],
            (Left::AtSignal, _, _) => vec![(Ask::Signal(self.id), "Ok(Buffered)")],
            (_, Wish::GoOn, Some(job)) => vec![(Ask::Retry(*job), "Ok(Requested")],
            (Left::DeadInUndo, Wish::Discard, Some(job)) => vec![(Ask::Discard(*job), "Err(NotUndone")],
            (_, Wish::Discard, Some(job)) => vec![(Ask::Discard(*job), "Ok(Requested")],
            _ => Vec::new(),
        }
    }

    /// What the old build is asked when it is back, and how its answer begins.
    pub(super) fn ask_of_old(&self, job: Option<&DeadJobId>) -> Option<(Ask, &'static str)> {
        let job = *job?;
        match (self.kind.left, self.kind.wish) {
            // It does what the new build was asked.
            (Left::DeadAtPivot, Wish::Cancel)
            | (_, Wish::GoOn)
            | (Left::DeadAtPivot | Left::DeadBehind, Wish::Discard) => None,
            (Left::DeadInUndo, Wish::Discard) => Some((Ask::ForceDiscard(job), "Ok(Done(Abandon))")),
            _ => Some((Ask::Retry(job), "Ok(")),
        }
    }

    /// The status in which it ends, and what it has done to the world by then, each step once.
    pub(super) fn ending(&self) -> (&'static str, Vec<(&'static str, i32)>) {
        let steps = steps(self.kind.change.old);
        let until = |step: &str| steps.iter().position(|known| *known == step).unwrap();
        let done = |count: usize| steps[..count].iter().map(|step| (*step, 1));
        let undone = |count: usize| steps[..count].iter().rev().map(|step| (*step, -1));
        let back = |count: usize| ("compensated", done(count).chain(undone(count)).collect());
        let (booked, asked) = (until("ask"), until("ask") + 1);
        match (self.kind.left, self.kind.wish) {
            (Left::Compensating, _) | (Left::Postponed, Wish::Cancel) => back(booked),
            (Left::CompensatingCall | Left::VanishedInUndo, _)
            | (Left::InDoubt | Left::Vanished | Left::Asleep | Left::AtSignal, Wish::Cancel)
            | (Left::DeadAtPivot, Wish::Cancel | Wish::Discard)
            | (Left::DeadInUndo, Wish::GoOn | Wish::Cancel) => back(asked),
            (Left::Queued, Wish::Cancel) => back(0),
            (Left::DeadInUndo, Wish::Discard) => {
                let left = undone(asked).take_while(|(step, _)| *step != "hotel");
                ("dead", done(asked).chain(left).collect())
            }
            (Left::DeadBehind, Wish::Discard) => ("dead", done(until("file")).collect()),
            _ => ("completed", done(steps.len()).collect()),
        }
    }
}
