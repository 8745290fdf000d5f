//! Requests to the tasks that commit jobs and starts in batches.

use tokio::sync::{mpsc, oneshot};

use crate::{
    definition::new_saga::{NewSaga, Started},
    model::{error::StartError, status::StepSide},
    runtime::job::{Committed, Job, Performed, PerformedKind},
};

/// One saga of a batch.
#[derive(Debug)]
pub(crate) struct BatchMember {
    pub(crate) job: Job,
    /// The result of performing the job, until it is applied.
    pub(crate) performed: Performed,
}

impl BatchMember {
    /// Whether a call to an outside service was made.
    pub(crate) fn made_call(&self) -> bool {
        matches!(self.performed.kind, PerformedKind::Called { .. })
    }

    /// The side of the step that made the call.
    pub(crate) fn call_site(&self) -> Option<StepSide> {
        self.made_call().then(|| self.job.state.side())
    }
}

/// A saga to be committed, and the channel for the result.
#[derive(Debug)]
pub(crate) struct CommitRequest {
    pub(crate) member: BatchMember,
    pub(crate) reply: oneshot::Sender<Committed>,
}

pub(crate) type CommitSender = mpsc::UnboundedSender<CommitRequest>;

/// Adds the requests that are already in the channel, as after a claim of many sagas, without waiting for more.
pub(crate) async fn drain_ready<T>(
    batch: &mut Vec<T>,
    arrivals: &mut mpsc::UnboundedReceiver<T>,
    max_batch: usize,
) {
    tokio::task::yield_now().await;
    while batch.len() < max_batch {
        match arrivals.try_recv() {
            Ok(one) => batch.push(one),
            Err(_) => return,
        }
    }
}

/// A saga to be started, and the channel for the answer.
pub(crate) struct StartRequest {
    pub(crate) saga: NewSaga,
    pub(crate) reply: oneshot::Sender<Result<Started, StartError>>,
}

pub(crate) type StartSender = mpsc::UnboundedSender<StartRequest>;
