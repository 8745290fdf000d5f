//! The choices of a batch: a saga takes an arm in the transaction that also runs the steps around it.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::{
    definition::{choice::ChoiceAction, computed::Uncomputed},
    model::{
        arms::Arm,
        status::{Direction, Status},
        stored_value::StoredValue,
        transition::{Event, Next},
        views::HistoryOutcome,
    },
    runtime::{
        commit::{attempt_error::AttemptError, cursor::SagaCursor},
        core::Core,
    },
    store::commits::HistoryRow,
};

impl<'a> SagaCursor<'a> {
    fn choice_action(&self) -> Option<&'a ChoiceAction> {
        let definition = self.definition;
        definition.actions.get(self.state.step_index)?.choice()
    }

    /// Whether the saga stands at a choice that it can make now.
    fn stands_at_choice(&self) -> bool {
        self.next == Next::Work
            && self.state.status == Status::Running
            && self.state.direction == Direction::Action
            && self.choice_action().is_some()
    }

    /// Makes the choices at which the saga stands, one after the other. `passed` gets the signals for which it can't wait
    /// any more because of the arms that it takes.
    pub(super) fn take_arms(
        &mut self,
        core: &Core,
        passed: &mut Vec<(Uuid, &'a str)>,
        history: &mut Vec<HistoryRow>,
    ) {
        while let Some(choice) = self.choice_action().filter(|_| self.stands_at_choice()) {
            let started = Instant::now();
            match choice.arm(&self.values) {
                Ok(arm) => self.take_arm(core, arm, started, passed, history),
                Err(uncomputed) => self.could_not_compute(uncomputed, history),
            }
        }
    }

    fn take_arm(
        &mut self,
        core: &Core,
        arm: Arm,
        started: Instant,
        passed: &mut Vec<(Uuid, &'a str)>,
        history: &mut Vec<HistoryRow>,
    ) {
        let output = match StoredValue::encode(&arm) {
            Ok(output) => output,
            Err(error) => return self.dead_letter(format!("its arm {error}"), history),
        };
        self.begin();
        // A choice has no code whose answer a test could replace.
        let (saga_id, definition, attempt) =
            (self.job.saga_id, &self.job.definition_name, self.state.attempt);
        let injected =
            core.faults.before_step(saga_id, definition, &self.step_name, Direction::Action, attempt);
        self.crash = self.crash.or(injected.crash);
        self.record(
            HistoryOutcome::Done,
            Some(output),
            AttemptError::default(),
            started,
            started.elapsed(),
            history,
        );
        let (graph, before) = (self.graph, self.state.step_index);
        self.apply(&Event::Chosen(arm));
        if !self.wait.has_signals {
            return;
        }
        let now = if self.next == Next::Work { self.state.step_index } else { graph.steps.len() };
        let left = graph
            .signals()
            .filter(|signal| graph.awaits_from(before, signal) && !graph.awaits_from(now, signal));
        passed.extend(left.map(|signal| (self.job.saga_id.0, signal)));
    }

    /// Applies that the predicate of a choice, or what computes the end of a wait, gave no answer.
    pub(super) fn could_not_compute(&mut self, uncomputed: Uncomputed, history: &mut Vec<HistoryRow>) {
        self.begin();
        self.apply_answer(&uncomputed.into(), Instant::now(), Duration::ZERO, history);
    }
}
