//! What a transaction of the engine does beyond the database, once it is committed.

use std::collections::BTreeMap;

use crate::{
    model::{ids::SagaId, views::FinalStatus},
    runtime::{core::Core, job::Job, lease_updates},
};

/// A transaction of the engine as far as it is not the database's: what user code did in it, and what follows from it.
///
/// It is the host of every [`Tx`](crate::definition::tx::Tx) that is made of the transaction.
pub(crate) struct Session<'a> {
    pub(crate) core: &'a Core,
    pub(crate) effects: CommitEffects,
    pub(crate) user_code: UserCodeState,
}

impl<'a> Session<'a> {
    pub(crate) fn new(core: &'a Core) -> Self {
        Self { core, effects: CommitEffects::default(), user_code: UserCodeState::default() }
    }
}

/// How far the user code of a transaction came.
#[derive(Debug, Default)]
pub(crate) struct UserCodeState {
    /// The server process of the connection, once a statement has told it.
    pub(crate) backend_pid: Option<i32>,
    /// User code was dropped, perhaps in the middle of a statement that the server still works on.
    pub(crate) cancelled_mid_statement: bool,
}

/// What the rest of the process learns once the transaction is committed; dropped if it is not.
#[derive(Debug, Default)]
pub(crate) struct CommitEffects {
    /// Sagas started and claimed here.
    pub(crate) jobs: Vec<Job>,
    /// Sagas that became due and were not claimed here, by queue.
    pub(crate) due: BTreeMap<String, Vec<SagaId>>,
    /// Sagas that came to rest.
    pub(crate) ended: Vec<(SagaId, FinalStatus)>,
    /// How many sagas were started, by definition.
    pub(crate) started: Vec<(String, u64)>,
}

impl CommitEffects {
    /// Adds what a part of the transaction did.
    pub(crate) fn merge(&mut self, part: Self) {
        let Self { jobs, due, ended, started } = part;
        self.jobs.extend(jobs);
        for (queue, ids) in due {
            self.due.entry(queue).or_default().extend(ids);
        }
        self.ended.extend(ended);
        self.started.extend(started);
    }
}

/// Passes on what a transaction did, once it is committed.
pub(crate) fn publish(core: &Core, effects: CommitEffects) {
    for (definition, count) in effects.started {
        metrics::counter!("sagaline_sagas_started_total", "definition" => definition).increment(count);
    }
    for job in effects.jobs {
        dispatch(core, job);
    }
    for (queue, ids) in effects.due {
        core.feeds.notify_due(&queue, ids);
    }
    core.waiters.notify(&effects.ended);
}

/// Hands out a job whose claim this process holds; a job that no feed takes is released.
pub(crate) fn dispatch(core: &Core, job: Job) {
    if let Some(rejected) = core.feeds.dispatch(job) {
        lease_updates::release_unstarted(core, [rejected]);
    }
}
