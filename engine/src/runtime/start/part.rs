//! Starts that share a transaction, and one attempt to commit them.

use std::{sync::Arc, time::Duration};

use sqlx::{Postgres, Transaction, pool::PoolConnection};

use crate::{
    definition::new_saga::{NewSaga, Started},
    model::error_chain::ErrorChain,
    model::{
        error::{StartError, StepError},
        outcome::chain,
    },
    runtime::{
        core::Core,
        effects::{self, CommitEffects, Session},
        messages::StartRequest,
        start::start_sagas::{self, ClaimOnStart},
    },
    store::transactions,
    support::connection::{Blame, blame, is_usable_after, timed_out},
};

/// An answer for each start of a part.
pub(super) type Answers = Vec<Result<Started, StartError>>;

/// How long a commit may take. Before the commit a single start may be at fault, so that the limit is that of the
/// attempt.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long one attempt may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long a statement waits for a lock.
    pub(super) lock_wait: Duration,
    /// How long everything before the commit may take.
    pub(super) work: Duration,
}

/// Starts that share a transaction.
pub(super) struct Part {
    requests: Vec<StartRequest>,
    /// Whether a commit got no answer, so that some of the sagas may exist.
    commit_unknown: bool,
}

impl Part {
    pub(super) fn new(requests: Vec<StartRequest>) -> Self {
        Self { requests, commit_unknown: false }
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The saga to be started, if it is the only one.
    pub(super) fn only(&self) -> Option<&NewSaga> {
        let [request] = self.requests.as_slice() else { return None };
        Some(&request.saga)
    }

    /// Forgets the starts whose callers no longer wait. If they may exist already, their sagas have to be found.
    pub(super) fn forget_abandoned(&mut self) {
        let commit_unknown = self.commit_unknown;
        self.requests.retain(|request| commit_unknown || !request.reply.is_closed());
    }

    /// Splits off the second half.
    pub(super) fn split(mut self) -> (Self, Self) {
        let requests = self.requests.split_off(self.requests.len() / 2);
        let second = Self { requests, ..self };
        (self, second)
    }

    pub(super) fn answer(self, answers: Answers) {
        for (request, answer) in self.requests.into_iter().zip(answers) {
            // A caller that is gone needs no reply.
            let _ = request.reply.send(answer);
        }
    }

    /// Answers every caller that its saga can't be started now.
    pub(super) fn refuse(self, reason: &str) {
        tracing::warn!(sagas = self.requests.len(), error = %reason, "sagas could not be started");
        let answers = self.requests.iter().map(|_| Err(StartError::Unavailable(reason.into()))).collect();
        self.answer(answers);
    }

    /// Tries to start the sagas in one transaction.
    pub(super) async fn commit(&mut self, core: &Arc<Core>, limits: Limits) -> Result<Answers, StepError> {
        let sagas: Vec<NewSaga> = self.requests.iter().map(|request| request.saga.clone()).collect();
        let mut connection = core.pool.acquire().await?;
        core.graphs.ensure_stored(&core.definitions, &mut connection).await?;
        let mut session = Session { can_split: true, ..Session::new(core) };
        let mut stage = Stage::Before;
        let result = in_transaction(&mut connection, &mut session, &sagas, limits, &mut stage).await;
        let Session { effects, user_code, .. } = session;
        let usable = !user_code.cancelled_mid_statement
            && match &result {
                Ok(_) | Err(StepError::Start(_) | StepError::OutputTooLarge(_)) => true,
                Err(StepError::Database(error)) => is_usable_after(error),
                Err(StepError::Other(_)) => false,
            };
        if !usable {
            // Returning the connection to the pool could wait on a dead socket forever and keep its slot.
            drop(connection.detach());
        }
        if user_code.cancelled_mid_statement
            && let Some(pid) = user_code.backend_pid
            && let Err(error) = core.terminate_backend(pid).await
        {
            tracing::debug!(error = %ErrorChain(&error), "can't terminate a statement that timed out");
        }
        match result {
            Ok(answers) => Ok(self.committed(core, effects, &sagas, answers)),
            Err(StepError::OutputTooLarge(failure)) if sagas.len() == 1 => {
                Ok(vec![Err(StartError::Refused(failure))])
            }
            Err(error) => {
                self.commit_unknown |= stage == Stage::Commit;
                Err(error)
            }
        }
    }

    fn committed(
        &self,
        core: &Core,
        effects: CommitEffects,
        sagas: &[NewSaga],
        mut answers: Answers,
    ) -> Answers {
        core.count_commit();
        metrics::counter!("sagaline_commits_total", "kind" => "start").increment(1);
        effects::publish(core, effects);
        if self.commit_unknown {
            // A saga that is found under the id of its own request was started by the commit whose answer was lost.
            for (saga, answer) in sagas.iter().zip(&mut answers) {
                if let Ok(started) = answer {
                    started.existing &= started.saga_id != saga.saga_id();
                }
            }
        }
        answers
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Before,
    Commit,
}

async fn in_transaction(
    connection: &mut PoolConnection<Postgres>,
    session: &mut Session<'_>,
    sagas: &[NewSaga],
    limits: Limits,
    stage: &mut Stage,
) -> Result<Answers, StepError> {
    let Ok(started) = tokio::time::timeout(limits.work, start(connection, session, sagas, limits)).await
    else {
        session.user_code.cancelled_mid_statement = true;
        return Err(StepError::Other("starting took too long".into()));
    };
    let (transaction, answers) = started?;
    *stage = Stage::Commit;
    match tokio::time::timeout(COMMIT_TIMEOUT, transaction.commit()).await {
        Ok(committed) => committed?,
        Err(_) => return Err(timed_out("committing starts took too long").into()),
    }
    Ok(answers)
}

async fn start<'c>(
    connection: &'c mut PoolConnection<Postgres>,
    session: &mut Session<'_>,
    sagas: &[NewSaga],
    limits: Limits,
) -> Result<(Transaction<'c, Postgres>, Answers), StepError> {
    let mut transaction = transactions::begin_bounded(connection, limits.lock_wait).await?;
    let answers = start_sagas::start(session, &mut transaction, sagas.to_vec(), ClaimOnStart::Yes).await?;
    Ok((transaction, answers))
}

/// Whether to retry the whole part, because the error may pass. A lock time-out is not such an error: the start that
/// waits for the lock must not hold up the others.
pub(super) fn is_retryable(error: &StepError) -> bool {
    let StepError::Database(error) = error else { return false };
    match blame(error) {
        Blame::Connection | Blame::Server | Blame::Unclear => true,
        Blame::Lock | Blame::Statement => false,
    }
}

/// Whether a single start may be at fault. An error of the server is not the fault of a start, unless others are
/// committed meanwhile.
pub(super) fn is_suspicious(error: &StepError, others_commit: bool) -> bool {
    let StepError::Database(error) = error else { return true };
    match blame(error) {
        Blame::Connection => false,
        Blame::Server => others_commit,
        Blame::Lock | Blame::Unclear | Blame::Statement => true,
    }
}

/// Whether a statement waited too long for a lock.
pub(super) fn is_blocked(error: &StepError) -> bool {
    matches!(error, StepError::Database(error) if blame(error) == Blame::Lock)
}

/// The reason for the caller.
pub(super) fn reason(error: &StepError) -> String {
    let reason = chain(error).join(": ");
    if is_blocked(error) {
        format!("another transaction holds a lock that the start needs: {reason}")
    } else {
        reason
    }
}
