//! The group commit of starts: requests that arrive while a batch is being committed form the next batch.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use sqlx::Acquire;
use tokio::sync::mpsc;

use crate::{
    definition::new_saga::{NewSaga, Started},
    model::{
        error::{StartError, StepError},
        outcome::chain,
        status::Direction,
    },
    runtime::{
        core::Core,
        effects::{self, Session, UserCodeState},
        messages::{StartRequest, drain_ready},
        savepoints::MAX_ITEMS,
        start::start_sagas::{self, ClaimOnStart},
    },
    support::{
        connection::{Blame, blame, is_usable_after, timed_out},
        jitter::jittered,
    },
};

type Answers = Vec<Result<Started, StartError>>;

/// How many times a batch is tried while the errors are transient.
const MAX_TRIES: u32 = 4;
const START_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) async fn run(core: Arc<Core>, mut arrivals: mpsc::UnboundedReceiver<StartRequest>) {
    let mut batch = Vec::new();
    loop {
        let arrived = tokio::select! {
            biased;
            count = arrivals.recv_many(&mut batch, core.settings.max_batch) => count,
            () = core.stop.cancelled() => { arrivals.close(); 0 }
        };
        if arrived == 0 && arrivals.is_closed() && arrivals.is_empty() {
            return;
        }
        if !batch.is_empty() {
            drain_ready(&mut batch, &mut arrivals, core.settings.max_batch).await;
            // If a batch panics, its callers get the answer that the engine does not respond; later batches go on.
            if AssertUnwindSafe(start(&core, std::mem::take(&mut batch))).catch_unwind().await.is_err() {
                tracing::error!("starting a batch of sagas panicked");
            }
        }
    }
}

/// Starts a batch, splitting it when it fails.
async fn start(core: &Arc<Core>, batch: Vec<StartRequest>) {
    let mut parts = parts(core, batch);
    while let Some(mut part) = parts.pop() {
        // A caller that no longer waits has abandoned its start.
        part.requests.retain(|request| part.commit_unknown || !request.reply.is_closed());
        if part.requests.is_empty() {
            continue;
        }
        let sagas: Vec<NewSaga> = part.requests.iter().map(|request| request.saga.clone()).collect();
        let commits = core.commits();
        let answers = match start_with_retries(core, &sagas, &mut part).await {
            Ok(answers) => answers,
            Err(error) if sagas.len() == 1 || !is_suspicious(&error, core.commits() != commits) => {
                unavailable(&sagas, &error)
            }
            Err(error) => {
                tracing::debug!(sagas = sagas.len(), error = %error, "a batch of starts failed; splitting it");
                // The batch had its retries. More of them for each part would hold up the starts that wait.
                part.max_tries = 1;
                let requests = part.requests.split_off(part.requests.len() / 2);
                parts.push(Part { requests, ..part });
                parts.push(part);
                continue;
            }
        };
        for (request, answer) in part.requests.into_iter().zip(answers) {
            // A caller that is gone needs no reply.
            let _ = request.reply.send(answer);
        }
    }
}

/// Splits a batch, in reverse order, into parts that have a savepoint for each start if one of their entry steps is
/// expected to need them.
fn parts(core: &Core, mut batch: Vec<StartRequest>) -> Vec<Part> {
    let items = batch.len();
    let expects_a_no = |request: &StartRequest| {
        let definition = core.definitions.get(request.saga.definition.as_ref());
        definition.is_some_and(|definition| {
            let entry = definition.graph.steps[0].entry;
            let rate = definition.actions[0].no_rate(Direction::Action);
            entry && rate.is_some_and(|rate| rate.expects_a_no(items))
        })
    };
    let size = if items > MAX_ITEMS && batch.iter().any(expects_a_no) { MAX_ITEMS } else { items };
    let mut parts = Vec::new();
    while batch.len() > size {
        let requests = batch.split_off((batch.len() - 1) / size * size);
        parts.push(Part { requests, commit_unknown: false, max_tries: MAX_TRIES });
    }
    parts.push(Part { requests: batch, commit_unknown: false, max_tries: MAX_TRIES });
    parts
}

/// Starts that share a transaction.
struct Part {
    requests: Vec<StartRequest>,
    /// Whether a commit got no answer, so that some of the sagas may exist.
    commit_unknown: bool,
    /// How often it is tried while the errors are transient.
    max_tries: u32,
}

/// Whether to retry the whole batch, because the error may pass. A lock time-out is not such an error: the start that
/// waits for the lock must not hold up the others.
fn is_retryable(error: &StepError) -> bool {
    let StepError::Database(error) = error else { return false };
    match blame(error) {
        Blame::Connection | Blame::Server | Blame::Unclear => true,
        Blame::Lock | Blame::Statement => false,
    }
}

/// Whether a single start may be at fault. An error of the server is not the fault of a start, unless others are
/// committed meanwhile.
fn is_suspicious(error: &StepError, others_commit: bool) -> bool {
    let StepError::Database(error) = error else { return true };
    match blame(error) {
        Blame::Connection => false,
        Blame::Server => others_commit,
        Blame::Lock | Blame::Unclear | Blame::Statement => true,
    }
}

fn unavailable(sagas: &[NewSaga], error: &(dyn std::error::Error + 'static)) -> Answers {
    let reason = chain(error).join(": ");
    tracing::warn!(sagas = sagas.len(), error = %reason, "sagas could not be started");
    sagas.iter().map(|_| Err(StartError::Unavailable(reason.clone()))).collect()
}

async fn start_with_retries(
    core: &Arc<Core>,
    sagas: &[NewSaga],
    part: &mut Part,
) -> Result<Answers, StepError> {
    let mut pause = Duration::from_millis(5);
    let mut tries = 0;
    loop {
        tries += 1;
        match start_once(core, sagas, part.commit_unknown).await {
            Err((error, stage)) if is_retryable(&error) && tries < part.max_tries => {
                tracing::debug!(error = %error, "a batch of starts failed with a transient error; retrying");
                part.commit_unknown |= stage == Stage::Commit;
                tokio::time::sleep(jittered(pause)).await;
                pause *= 4;
            }
            Err((error, stage)) => {
                part.commit_unknown |= stage == Stage::Commit;
                return Err(error);
            }
            Ok(answers) => return Ok(answers),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Before,
    Commit,
}

async fn start_once(
    core: &Arc<Core>,
    sagas: &[NewSaga],
    commit_unknown: bool,
) -> Result<Answers, (StepError, Stage)> {
    let before = |error: sqlx::Error| (StepError::from(error), Stage::Before);
    let mut connection = core.pool.acquire().await.map_err(before)?;
    let (mut stage, mut user_code) = (Stage::Before, UserCodeState::default());
    let work = async {
        let mut transaction = connection.begin().await?;
        let mut session = Session { can_split: true, ..Session::new(core) };
        let started =
            start_sagas::start(&mut session, &mut transaction, sagas.to_vec(), ClaimOnStart::Yes).await;
        user_code = session.user_code;
        let mut answers = started?;
        stage = Stage::Commit;
        transaction.commit().await?;
        core.count_commit();
        metrics::counter!("sagaline_commits_total", "kind" => "start").increment(1);
        effects::publish(core, session.effects);
        if commit_unknown {
            // A saga that is found under the id of its own request was started by the commit whose answer was lost.
            for (saga, answer) in sagas.iter().zip(&mut answers) {
                if let Ok(started) = answer {
                    started.existing &= started.saga_id != saga.saga_id();
                }
            }
        }
        Ok(answers)
    };
    let result = match tokio::time::timeout(START_TIMEOUT, work).await {
        Ok(result) => result,
        // Before the commit a single start may be at fault, so the batch is split.
        Err(_) if stage == Stage::Before => {
            user_code.cancelled_mid_statement = true;
            Err(StepError::Other("starting took too long".into()))
        }
        Err(_) => Err(StepError::Database(timed_out("committing starts took too long"))),
    };
    let usable = !user_code.cancelled_mid_statement
        && match &result {
            Ok(_) | Err(StepError::Start(_)) => true,
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
        tracing::debug!(error = %error, "can't terminate a statement that timed out");
    }
    result.map_err(|error| (error, stage))
}
