//! What a transaction of the engine changes in this process once it is committed.

use std::collections::BTreeMap;

use crate::{
    model::{ids::SagaId, outcome::Retry, views::FinalStatus},
    runtime::{core::Core, job::Job, lease_updates, savepoints::Savepoints},
};

/// The state of an engine transaction outside the database: the progress of its user code, and the effects to publish
/// after the commit.
///
/// It is the host of every [`Tx`](crate::definition::tx::Tx) of the transaction.
pub(crate) struct Session<'a> {
    pub(crate) core: &'a Core,
    pub(crate) effects: CommitEffects,
    pub(crate) user_code: UserCodeState,
    pub(crate) savepoints: Savepoints,
    /// Whether work for which the transaction has no savepoint left can be tried in smaller transactions.
    pub(crate) can_split: bool,
    /// The sagas whose entry steps put their starts off, with their answers.
    pub(crate) put_off: Vec<(SagaId, Retry)>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(core: &'a Core) -> Self {
        Self {
            core,
            effects: CommitEffects::default(),
            user_code: UserCodeState::default(),
            savepoints: Savepoints::default(),
            can_split: false,
            put_off: Vec::new(),
        }
    }
}

/// What is known about the user code of a transaction.
#[derive(Debug, Default)]
pub(crate) struct UserCodeState {
    /// The PID of the connection's server process, once a statement has returned it. The process is terminated
    /// if the server may still execute a statement of user code that was dropped.
    pub(crate) backend_pid: Option<i32>,
    /// User code was dropped, perhaps during a statement that the server still executes.
    pub(crate) cancelled_mid_statement: bool,
}

/// What the rest of the process learns once the transaction is committed; dropped if it is not.
#[derive(Debug, Default)]
pub(crate) struct CommitEffects {
    /// Sagas that were started and claimed here.
    pub(crate) jobs: Vec<Job>,
    /// Sagas that became due and were not claimed here, by queue.
    pub(crate) due: BTreeMap<String, Vec<SagaId>>,
    /// Sagas that ended or died.
    pub(crate) ended: Vec<(SagaId, FinalStatus)>,
    /// The number of sagas started, by definition.
    pub(crate) started: Vec<(String, u64)>,
    /// Sagas for which a signal was stored, or of which a child has ended.
    pub(crate) signalled: Vec<SagaId>,
    /// Whether cancels were stored in inboxes.
    pub(crate) sent_cancels: bool,
}

impl CommitEffects {
    /// Adds the effects of a part of the transaction.
    pub(crate) fn merge(&mut self, part: Self) {
        let Self { jobs, due, ended, started, signalled, sent_cancels } = part;
        self.sent_cancels |= sent_cancels;
        self.jobs.extend(jobs);
        for (queue, ids) in due {
            self.due.entry(queue).or_default().extend(ids);
        }
        self.ended.extend(ended);
        self.started.extend(started);
        self.signalled.extend(signalled);
    }
}

/// Publishes the effects of a transaction that is committed.
pub(crate) fn publish(core: &Core, effects: CommitEffects) {
    for (definition, count) in effects.started {
        metrics::counter!("sagaline_sagas_started_total", "definition" => definition).increment(count);
    }
    for job in effects.jobs {
        dispatch(core, job);
    }
    for (queue, ids) in effects.due {
        core.hints.tell_due(&queue);
        core.feeds.notify_due(&queue, ids);
    }
    if !effects.signalled.is_empty() {
        core.nudges.add(effects.signalled.into_iter().map(|id| id.0));
    }
    if effects.sent_cancels {
        core.inbox_wakeup.notify_one();
    }
    core.waiters.notify(&effects.ended);
    core.hints.tell_ended(&effects.ended);
}

/// Dispatches a job to its feed; releases a job that no feed accepts.
pub(crate) fn dispatch(core: &Core, job: Job) {
    if let Some(rejected) = core.feeds.dispatch(job) {
        lease_updates::release_unstarted(core, [rejected]);
    }
}
