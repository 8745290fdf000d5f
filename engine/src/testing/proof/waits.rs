//! What the outside does about waits: it sends signals, early, late and twice, or lets the time pass.

use crate::{
    definition::new_saga::NewSaga,
    model::{
        ids::SagaId,
        signal::{Signal, SignalError, SignalState},
        status::Status,
        views::SagaView,
    },
    store,
    testing::proof::{
        Proof, ProofError, case::Kind, case_faults::set, case_run::CaseRun, outside::is_held_at,
        process::Process, report::Note,
    },
};

impl Proof {
    /// The signal of this name, for a step. It has a key, so that it can be sent again.
    fn signal_named(&self, name: &str, step: &str) -> Option<Signal> {
        let signal = self.signals.iter().map(|signal| signal()).find(|signal| signal.name == name)?;
        Some(signal.key(in_time(step)))
    }
}

/// What is to be done about the waits of sagas.
#[derive(Default)]
struct Waits {
    /// Sagas whose time is over.
    over: Vec<SagaId>,
    /// Signals to be sent.
    signals: Vec<(SagaId, Signal)>,
    /// Those whose time is over, too.
    racing: Vec<(SagaId, Signal)>,
}

impl CaseRun<'_> {
    /// Sends the signal with the start, if the case says that it comes early.
    pub(super) fn with_early_signal(&self, new: NewSaga) -> NewSaga {
        if self.case.kind != Kind::SignalComesEarly {
            return new;
        }
        match self.case_signal() {
            Some(signal) => {
                set(&self.faults.met);
                new.signal(signal)
            }
            None => new,
        }
    }

    fn case_signal(&self) -> Option<Signal> {
        let name = self.graph.steps[self.graph.position(&self.case.step)?].signal()?;
        self.proof.signal_named(name, &self.case.step)
    }

    /// Ends the waits of the sagas, unless they are to be held there.
    pub(super) async fn act_on_waits(
        &mut self,
        process: &Process,
        active: &[&SagaView],
    ) -> Result<(), ProofError> {
        let waits = self.waits(active);
        // They are to go on together.
        let are_quiet = active.iter().all(|saga| saga.lease_owner.is_none());
        if !are_quiet || (waits.over.is_empty() && waits.signals.is_empty() && waits.racing.is_empty()) {
            return Ok(());
        }
        let _pause = process.pause().await;
        for (saga_id, signal) in waits.signals {
            let is_twice = self.case.kind == Kind::SignalComesTwice && self.is_struck(saga_id);
            self.send(process, saga_id, &signal).await?;
            if is_twice && signal.key.as_deref() == Some(&in_time(&self.case.step)) {
                set(&self.faults.met);
                self.send(process, saga_id, &signal).await?;
            }
        }
        let mut transaction = self.pool.begin().await?;
        let over: Vec<_> =
            waits.over.iter().chain(waits.racing.iter().map(|(id, _)| id)).map(|id| id.0).collect();
        for (saga_id, signal) in waits.racing {
            set(&self.faults.met);
            match process.engine.signal_in(&mut transaction, saga_id, signal).await {
                Ok(_) => {}
                Err(SignalError::Database(error)) => return Err(error.into()),
                Err(error) => self.note(format!("the signal was refused: {error}")),
            }
        }
        store::testing::end_waits_of(&mut transaction, &over).await?;
        transaction.commit().await?;
        Ok(())
    }

    fn waits(&self, active: &[&SagaView]) -> Waits {
        let mut waits = Waits::default();
        for saga in active.iter().filter(|saga| saga.lease_owner.is_none()) {
            let (id, kind) = (saga.saga_id, self.case.kind);
            let is_case = saga.step == self.case.step && self.is_struck(id);
            if is_case && kind.stops() && !self.is_released() {
                continue;
            }
            let signal = match (saga.waits_for.as_deref(), &saga.signal) {
                (Some("sleep"), _) => None,
                (Some("signal"), Some(_)) if self.timed_out.contains(&saga.step) => None,
                (Some("signal"), Some(_)) if is_case && kind == Kind::SignalTimesOut => {
                    set(&self.faults.met);
                    None
                }
                (Some("signal"), Some(_)) if is_case && kind == Kind::SignalComesLate => None,
                (Some("signal"), Some(name)) => self.proof.signal_named(name, &saga.step),
                _ => continue,
            };
            match signal {
                None => waits.over.push(id),
                Some(signal) if is_case && kind == Kind::SignalRacesTimeOut => {
                    waits.racing.push((id, signal));
                }
                Some(signal) => waits.signals.push((id, signal)),
            }
        }
        waits
    }

    /// Sends a signal that a wait is to take. It may have been sent before.
    async fn send(&mut self, process: &Process, saga_id: SagaId, signal: &Signal) -> Result<(), ProofError> {
        match process.engine.signal(saga_id, signal.clone()).await {
            Ok(_) => Ok(()),
            Err(SignalError::Database(error)) => Err(error.into()),
            Err(error) => {
                self.note(format!("the signal was refused: {error}"));
                Ok(())
            }
        }
    }

    /// Sends the signals for which the wait is over, when the sagas are held behind it.
    pub(super) async fn send_late(
        &mut self,
        process: &Process,
        active: &[&SagaView],
    ) -> Result<(), ProofError> {
        let Some(step) = self.faults.held_for_signal.clone().filter(|_| !self.is_released()) else {
            return Ok(());
        };
        let are_behind = self
            .faults
            .struck
            .iter()
            .all(|id| active.iter().any(|saga| saga.saga_id == *id && is_held_at(saga, &step)));
        let Some(signal) = self.case_signal().filter(|_| are_behind) else { return Ok(()) };
        let _pause = process.pause().await;
        let awaited_later = self.is_awaited_from(&step, &signal);
        for id in self.faults.struck.clone() {
            let signal = signal.clone().key(late(&self.case.step));
            match process.engine.signal(id, signal).await {
                Ok(receipt) if awaited_later || receipt.state == SignalState::TooLate => {}
                Err(SignalError::Database(error)) => return Err(error.into()),
                answer => self.notes.push(Note::with(
                    format!("a signal that came after the time-out of `{}` was not too late", self.case.step),
                    format!("{answer:?}"),
                )),
            }
        }
        set(&self.faults.met);
        self.release();
        Ok(())
    }

    fn is_awaited_from(&self, step: &str, signal: &Signal) -> bool {
        self.graph.position(step).is_some_and(|at| self.graph.awaits_from(at, &signal.name))
    }

    /// Sends signals to sagas at rest: once more one that was taken, or one that is late.
    pub(super) async fn send_last(
        &mut self,
        process: &Process,
        sagas: &[SagaView],
    ) -> Result<(), ProofError> {
        let twice = match self.case.kind {
            Kind::SignalComesTwice => true,
            Kind::SignalComesLate => false,
            _ => return Ok(()),
        };
        let Some(signal) = self.case_signal() else { return Ok(()) };
        for saga in sagas {
            if !self.is_struck(saga.saga_id) {
                continue;
            }
            let key = if twice { in_time(&self.case.step) } else { format!("{} it", after(&self.case.step)) };
            let answer = process.engine.signal(saga.saga_id, signal.clone().key(key)).await;
            let is_right = match &answer {
                Err(SignalError::Database(_)) => return answer.map(drop).map_err(no_database),
                Ok(receipt) => {
                    if twice {
                        receipt.replayed
                    } else {
                        saga.status == Status::Dead
                    }
                }
                Err(error) => !twice && matches!(error, SignalError::Ended(_)),
            };
            if !is_right {
                let what =
                    format!("a signal for `{}` that came after the end was answered wrongly", saga.step);
                self.notes.push(Note::with(what, format!("{answer:?}")));
            }
        }
        set(&self.faults.met);
        Ok(())
    }

    /// Notes if the signal of the case was not taken, or another one in its place.
    pub(super) async fn note_signals(&mut self) -> Result<(), ProofError> {
        let is_taken = match self.case.kind {
            Kind::SignalComesEarly | Kind::SignalComesTwice | Kind::SignalRacesTimeOut => true,
            Kind::SignalComesLate | Kind::SignalTimesOut => false,
            _ => return Ok(()),
        };
        let Some(signal) = self.case_signal() else { return Ok(()) };
        for id in self.faults.struck.clone() {
            let taken = store::testing::taken_signals(&self.pool, id.0, &signal.name).await?;
            let times = taken.iter().filter(|key| **key == in_time(&self.case.step)).count();
            if times != usize::from(is_taken) {
                let wanted = if is_taken { "once" } else { "never" };
                let what = format!("`{}` took its signal {times} times, not {wanted}", self.case.step);
                self.note(what);
            }
        }
        Ok(())
    }
}

fn no_database(error: SignalError) -> ProofError {
    match error {
        SignalError::Database(error) => error.into(),
        other => sqlx::Error::Protocol(other.to_string()).into(),
    }
}

fn in_time(step: &str) -> String {
    format!("proof of {step}")
}

fn late(step: &str) -> String {
    format!("{} the time-out", after(step))
}

fn after(step: &str) -> String {
    format!("proof of {step}, after")
}
