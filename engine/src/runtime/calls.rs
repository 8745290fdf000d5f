//! The calls that this process makes now: what they report, and which of them are to stop early.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    definition::running_call::{Report, RunningCall},
    model::{ids::SagaId, kinds::Placement, status::Direction},
    runtime::job::Job,
    store::progress::ProgressRow,
};

/// The running calls of one process, by their sagas.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    running: Mutex<HashMap<SagaId, Entry>>,
    /// Told when a call has reported its progress.
    pub(crate) reported: Arc<Notify>,
}

#[derive(Clone, Debug)]
struct Entry {
    call: Arc<RunningCall>,
    epoch: i64,
    step: Arc<str>,
    direction: Direction,
    attempt: u32,
    /// Whether a cancel or a passed deadline makes the saga compensate once the call has answered, whatever it answers.
    can_be_cancelled: bool,
}

impl Calls {
    /// Adds the call of a job, which counts as running until the [`CallGuard`] is dropped.
    pub(crate) fn begin(self: &Arc<Self>, job: &Job) -> CallGuard {
        let call = Arc::new(RunningCall::new(self.reported.clone()));
        let entry = Entry {
            call: call.clone(),
            epoch: job.epoch,
            step: job.step.clone(),
            direction: job.direction(),
            attempt: job.attempt(),
            can_be_cancelled: can_be_cancelled(job),
        };
        self.running.lock().insert(job.saga_id, entry);
        CallGuard { saga_id: job.saga_id, call, calls: self.clone() }
    }

    /// Tells the calls of these sagas that their saga was cancelled or that its deadline passed.
    pub(crate) fn cancel(&self, saga_ids: impl IntoIterator<Item = Uuid>) {
        let running = self.running.lock();
        let entries = saga_ids.into_iter().filter_map(|id| running.get(&SagaId(id)));
        for entry in entries.filter(|entry| entry.can_be_cancelled) {
            entry.call.cancellation.cancel();
        }
    }

    /// The newest progress of each call that is not written, in the order of the sagas' ids.
    pub(crate) fn unwritten(&self) -> Vec<Unwritten> {
        let running = self.running.lock();
        let unwritten = |(saga_id, entry): (&SagaId, &Entry)| {
            let report = entry.call.unwritten()?;
            Some(Unwritten { saga_id: *saga_id, entry: entry.clone(), report })
        };
        let mut rows: Vec<Unwritten> = running.iter().filter_map(unwritten).collect();
        drop(running);
        rows.sort_unstable_by_key(|row| row.saga_id);
        rows
    }
}

/// A cancel at the pivot depends on the answer: a pivot that is done is not cancelled, nor is one in doubt.
fn can_be_cancelled(job: &Job) -> bool {
    let node = job.graph().steps.get(job.state.step_index);
    let is_before_pivot = node.is_some_and(|node| match node.placement {
        Placement::BeforePivot => true,
        Placement::Pivot | Placement::AfterPivot => false,
    });
    is_before_pivot && job.direction() == Direction::Action
}

/// A progress that is to be written.
#[derive(Debug)]
pub(crate) struct Unwritten {
    saga_id: SagaId,
    entry: Entry,
    report: Report,
}

impl Unwritten {
    pub(crate) fn saga_id(&self) -> Uuid {
        self.saga_id.0
    }

    pub(crate) fn row(&self) -> ProgressRow<'_> {
        ProgressRow {
            saga_id: self.saga_id.0,
            epoch: self.entry.epoch,
            step: &self.entry.step,
            direction: self.entry.direction,
            attempt: i32::try_from(self.entry.attempt).unwrap_or(i32::MAX),
            progress: &self.report.progress,
            age: self.report.age,
        }
    }

    /// Notes that it is written.
    pub(crate) fn written(&self) {
        self.entry.call.wrote(&self.report);
    }
}

/// Keeps one call of this process in the table until it is dropped.
#[derive(Debug)]
pub(crate) struct CallGuard {
    saga_id: SagaId,
    pub(crate) call: Arc<RunningCall>,
    calls: Arc<Calls>,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let mut running = self.calls.running.lock();
        // Keeps the entry if this process has lost the claim, claimed the saga again and calls anew.
        if running.get(&self.saga_id).is_some_and(|entry| Arc::ptr_eq(&entry.call, &self.call)) {
            running.remove(&self.saga_id);
        }
    }
}
