//! What a proof does about waits: it sends the signal, or ends the time.

use std::sync::atomic::Ordering;

use crate::{
    engine::Engine,
    model::{
        ids::SagaId,
        signal::{Signal, SignalError},
    },
    testing::{
        cases::{CaseFaults, Kind},
        hooks,
        proof::{Proof, ProofError},
    },
};

impl Proof {
    pub(super) fn signal_named(&self, name: &str, step: &str) -> Option<Signal> {
        let signal = self.signals.iter().map(|signal| signal()).find(|signal| signal.name == name)?;
        Some(signal.key(format!("proof of {step}")))
    }

    /// Ends the wait of the saga, if it waits: with the signal for it, or as if its time were over.
    pub(super) async fn end_wait(
        &self,
        engine: &Engine,
        saga_id: SagaId,
        case_faults: &CaseFaults,
        notes: &mut Vec<String>,
    ) -> Result<(), ProofError> {
        let saga = engine.saga(saga_id).await?.ok_or(sqlx::Error::RowNotFound)?;
        let is_case = saga.step == case_faults.case.step;
        // Another look cancels it.
        let is_to_be_cancelled =
            case_faults.case.kind == Kind::CancelledThere && !case_faults.spent.load(Ordering::Acquire);
        if is_case && is_to_be_cancelled {
            return Ok(());
        }
        let signal = match (saga.waits_for.as_deref(), &saga.signal) {
            (Some("sleep"), _) => None,
            (Some("signal"), Some(_)) if is_case && case_faults.case.kind == Kind::SignalTimesOut => {
                case_faults.spent.store(true, Ordering::Release);
                None
            }
            (Some("signal"), Some(name)) => self.signal_named(name, &saga.step),
            _ => return Ok(()),
        };
        let Some(signal) = signal else {
            hooks::end_waits(&self.pool).await?;
            return Ok(());
        };
        let twice = is_case && case_faults.case.kind == Kind::SignalComesTwice;
        for nth in 0..=usize::from(twice) {
            match engine.signal(saga_id, signal.clone()).await {
                Ok(receipt) if nth > 0 => {
                    case_faults.spent.store(true, Ordering::Release);
                    if !receipt.replayed {
                        notes.push("the signal that came twice was stored twice".into());
                    }
                }
                // Another look may have sent it before.
                Ok(_) => {}
                Err(SignalError::Database(error)) => return Err(error.into()),
                Err(error) => notes.push(format!("the signal was refused: {error}")),
            }
        }
        Ok(())
    }
}
