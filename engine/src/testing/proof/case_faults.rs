//! Injects the fault of one case into the sagas that it strikes.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    model::{ids::SagaId, outcome::Failure, status::Direction},
    support::faults::{DisabledGuard, Fault, FaultPoint, Faults},
    testing::proof::{
        case::{Case, Kind},
        child_faults::{ChildEffect, ChildFault},
    },
};

/// How long a saga is held at a step: until the proof makes it due.
const HELD: Duration = Duration::from_hours(1);

/// The fault of a case, and how far it has come.
#[derive(Debug)]
pub(super) struct CaseFaults {
    pub(super) case: Case,
    /// The sagas of the case.
    pub(super) sagas: BTreeSet<SagaId>,
    /// Those among them that it strikes.
    pub(super) struck: BTreeSet<SagaId>,
    /// The step that fails so that the case's step is undone.
    pub(super) failing: Option<String>,
    /// The step at which the sagas are held until the late signal was sent.
    pub(super) held_for_signal: Option<String>,
    pub(super) children: Vec<ChildFault>,
    pub(super) disabled_guard: Option<DisabledGuard>,
    /// Whether the fault happened.
    pub(super) met: AtomicBool,
    /// Whether the sagas, or their children, are no longer held.
    pub(super) released: AtomicBool,
    /// Whether what kept a step from working is mended.
    pub(super) healed: AtomicBool,
    /// The steps that left rows behind.
    leftovers: Mutex<Vec<String>>,
}

impl CaseFaults {
    pub(super) fn new(case: &Case, sagas: BTreeSet<SagaId>, struck: BTreeSet<SagaId>) -> Self {
        Self {
            case: case.clone(),
            sagas,
            struck,
            failing: None,
            held_for_signal: None,
            children: Vec::new(),
            disabled_guard: None,
            met: AtomicBool::new(false),
            released: AtomicBool::new(false),
            healed: AtomicBool::new(false),
            leftovers: Mutex::default(),
        }
    }

    /// Whether sagas are held now, or will be: time must not be skipped for them.
    pub(super) fn holds(&self) -> bool {
        (self.case.kind.stops() || self.held_for_signal.is_some()) && !is(&self.released)
    }

    /// A sentence for every step that wrote rows and then said no.
    pub(super) fn take_leftovers(&self) -> Vec<String> {
        std::mem::take(&mut self.leftovers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn once(&self, fault: Fault) -> Option<Fault> {
        (!self.met.swap(true, Ordering::AcqRel)).then_some(fault)
    }

    fn of_saga(&self, point: &FaultPoint) -> Option<Fault> {
        let is_action = point.direction == Direction::Action;
        let is_at = |step: &Option<String>| is_action && step.as_deref() == Some(point.step.as_str());
        if is_at(&self.failing) {
            return Some(made_to_fail());
        }
        if is_at(&self.held_for_signal) && !is(&self.released) {
            return Some(Fault::Hold(HELD));
        }
        if point.step != self.case.step {
            return None;
        }
        match (self.case.kind, is_action) {
            (Kind::ActionCrashesBeforeCommit | Kind::AnswerIsLost, true)
            | (Kind::UndoCrashesBeforeCommit, false) => self.once(Fault::CrashBeforeCommit),
            (Kind::ActionCrashesAfterCommit, true) | (Kind::UndoCrashesAfterCommit, false) => {
                self.once(Fault::CrashAfterCommit)
            }
            (Kind::ActionFails, true) => Some(made_to_fail()),
            (Kind::ActionNeverWorks, true) => {
                Some(Fault::Retry("a test keeps this step from working".into()))
            }
            (kind, true) if kind.stops() && !is(&self.released) => Some(Fault::Hold(HELD)),
            (Kind::UndoNeedsAPerson, false) if !is(&self.healed) => {
                Some(Fault::Retry("a test keeps this undo from working".into()))
            }
            _ => None,
        }
    }

    fn of_child(&self, point: &FaultPoint) -> Option<Fault> {
        let is_of = |fault: &&ChildFault| {
            fault.definition == point.definition
                && fault.step == point.step
                && fault.direction == point.direction
        };
        let fault = match self.children.iter().find(is_of)?.effect {
            ChildEffect::Fails => made_to_fail(),
            ChildEffect::FailsUntilHealed if !is(&self.healed) => made_to_fail(),
            ChildEffect::StuckUntilHealed if !is(&self.healed) => {
                Fault::Retry("a test keeps this child from working".into())
            }
            ChildEffect::Held if !is(&self.released) => Fault::Hold(HELD),
            ChildEffect::CrashesAfterCommit => return self.once(Fault::CrashAfterCommit),
            ChildEffect::FailsUntilHealed | ChildEffect::StuckUntilHealed | ChildEffect::Held => return None,
        };
        if self.case.kind == Kind::ChildFails {
            set(&self.met);
        }
        Some(fault)
    }
}

impl Faults for CaseFaults {
    fn looks_for_leftovers(&self) -> bool {
        true
    }

    fn disabled_guard(&self) -> Option<DisabledGuard> {
        self.disabled_guard
    }

    fn left_behind(&self, _: SagaId, point: &FaultPoint) {
        let FaultPoint { definition, step, direction } = point;
        let sentence = format!(
            "the {direction} of `{step}` of `{definition}` left rows behind, if only as they were, and then said no"
        );
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner).push(sentence);
    }

    fn at(&self, saga_id: SagaId, point: &FaultPoint, _: u32) -> Option<Fault> {
        if self.struck.contains(&saga_id) {
            self.of_saga(point)
        } else if self.sagas.contains(&saga_id) {
            None
        } else {
            self.of_child(point)
        }
    }
}

fn made_to_fail() -> Fault {
    Fault::Fail(Failure::new("made-to-fail", "a test made this step fail"))
}

pub(super) fn is(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Acquire)
}

pub(super) fn set(flag: &AtomicBool) {
    flag.store(true, Ordering::Release);
}
