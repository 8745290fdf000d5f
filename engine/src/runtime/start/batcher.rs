//! Group commit of starts: what arrives while the last batch is being committed is the next one.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use sqlx::Acquire;
use tokio::sync::mpsc;

use crate::{
    definition::new_saga::{NewSaga, Started},
    model::{
        error::{StartError, StepError},
        outcome::chain,
    },
    runtime::{
        core::Core,
        effects::{self, Session, UserCodeState},
        messages::{StartRequest, drain_ready},
        start::start_sagas::{self, ClaimOnStart},
    },
    support::{
        connection::{is_lock_timeout, is_transient, timed_out},
        jitter::jittered,
    },
};

type Answers = Vec<Result<Started, StartError>>;

/// How often a batch is tried while its trouble is transient.
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
            // Callers whose batch panicked hear that the engine does not answer; the others go on.
            if AssertUnwindSafe(start(&core, std::mem::take(&mut batch))).catch_unwind().await.is_err() {
                tracing::error!("starting a batch of sagas panicked");
            }
        }
    }
}

/// Starts a batch, in parts where it must.
async fn start(core: &Arc<Core>, batch: Vec<StartRequest>) {
    let mut parts = vec![Part { requests: batch, commit_unknown: false }];
    while let Some(mut part) = parts.pop() {
        // Who does not wait for the answer any more has given the start up.
        part.requests.retain(|request| part.commit_unknown || !request.reply.is_closed());
        if part.requests.is_empty() {
            continue;
        }
        let sagas: Vec<NewSaga> = part.requests.iter().map(|request| request.saga.clone()).collect();
        let answers = match start_with_retries(core, &sagas, &mut part.commit_unknown).await {
            Ok(answers) => answers,
            Err(error) if sagas.len() == 1 || is_retryable(&error) => unavailable(&sagas, &error),
            Err(error) => {
                tracing::debug!(sagas = sagas.len(), error = %error, "a batch of starts failed; splitting it");
                let requests = part.requests.split_off(part.requests.len() / 2);
                parts.push(Part { requests, ..part });
                parts.push(part);
                continue;
            }
        };
        for (request, answer) in part.requests.into_iter().zip(answers) {
            // A caller that has gone does not need to know.
            let _ = request.reply.send(answer);
        }
    }
}

/// Starts that share a transaction.
struct Part {
    requests: Vec<StartRequest>,
    /// A commit got no answer: some of them may stand.
    commit_unknown: bool,
}

/// Whether the database is away, rather than one of the starts to blame. One that waits for somebody else's lock must
/// not keep the others.
fn is_retryable(error: &StepError) -> bool {
    matches!(error, StepError::Database(error) if is_transient(error) && !is_lock_timeout(error))
}

fn unavailable(sagas: &[NewSaga], error: &(dyn std::error::Error + 'static)) -> Answers {
    let reason = chain(error).join(": ");
    tracing::warn!(sagas = sagas.len(), error = %reason, "sagas could not be started");
    sagas.iter().map(|_| Err(StartError::Unavailable(reason.clone()))).collect()
}

async fn start_with_retries(
    core: &Arc<Core>,
    sagas: &[NewSaga],
    commit_unknown: &mut bool,
) -> Result<Answers, StepError> {
    let mut pause = Duration::from_millis(5);
    let mut tries = 0;
    loop {
        tries += 1;
        match start_once(core, sagas, *commit_unknown).await {
            Err((error, stage)) if is_retryable(&error) && tries < MAX_TRIES => {
                tracing::debug!(error = %error, "a batch of starts met trouble that may pass; trying again");
                *commit_unknown |= stage == Stage::Commit;
                tokio::time::sleep(jittered(pause)).await;
                pause *= 4;
            }
            Err((error, stage)) => {
                *commit_unknown |= stage == Stage::Commit;
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
        let mut session = Session::new(core);
        let started =
            start_sagas::start(&mut session, &mut transaction, sagas.to_vec(), ClaimOnStart::Yes).await;
        user_code = session.user_code;
        let mut answers = started?;
        stage = Stage::Commit;
        transaction.commit().await?;
        metrics::counter!("sagaline_commits_total", "kind" => "start").increment(1);
        effects::publish(core, session.effects);
        if commit_unknown {
            // Who is found under its own id was started by the commit that got no answer.
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
        // Before the commit one of them may be to blame: then they are tried apart.
        Err(_) if stage == Stage::Before => {
            user_code.cancelled_mid_statement = true;
            Err(StepError::Other("starting took too long".into()))
        }
        Err(_) => Err(StepError::Database(timed_out("committing starts took too long"))),
    };
    let usable = !user_code.cancelled_mid_statement
        && matches!(
            &result,
            Ok(_) | Err(StepError::Start(_) | StepError::Database(sqlx::Error::Database(_)))
        );
    if !usable {
        // Handing it back could wait on a dead socket for ever and keep its place in the pool.
        drop(connection.detach());
    }
    if user_code.cancelled_mid_statement
        && let Some(pid) = user_code.backend_pid
        && let Err(error) = core.terminate_backend(pid).await
    {
        tracing::debug!(error = %error, "can't end a statement that nobody waits for");
    }
    result.map_err(|error| (error, stage))
}
