//! Group commit of starts: what arrives while the last batch is being committed is the next one.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use sqlx::Acquire;
use tokio::sync::{mpsc, oneshot};

use crate::{
    engine::Inner,
    error::{StartError, StepError},
    start::{NewSaga, Started, start_in_tx},
    trouble::{is_transient, waited_for_lock},
    tx::{AfterCommit, Course, Tx},
    upkeep,
};

/// A start, and who waits for it.
pub(crate) struct Request {
    pub(crate) saga: NewSaga,
    pub(crate) tell: oneshot::Sender<Result<Started, StartError>>,
}

pub(crate) type Sender = mpsc::UnboundedSender<Request>;
type Answers = Vec<Result<Started, StartError>>;

/// How often a batch is tried while its trouble is nobody's fault.
const TRIES: u32 = 4;
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn channel() -> (Sender, mpsc::UnboundedReceiver<Request>) {
    mpsc::unbounded_channel()
}

pub(crate) async fn run(engine: Arc<Inner>, mut arrivals: mpsc::UnboundedReceiver<Request>) {
    let mut batch = Vec::new();
    loop {
        let arrived = tokio::select! {
            biased;
            count = arrivals.recv_many(&mut batch, engine.settings.max_batch) => count,
            () = engine.stop.cancelled() => { arrivals.close(); 0 }
        };
        if arrived == 0 && arrivals.is_closed() && arrivals.is_empty() {
            return;
        }
        if !batch.is_empty() {
            crate::lane::gather(&mut batch, &mut arrivals, engine.settings.max_batch).await;
            // Callers whose batch panicked hear that the engine does not answer; the others go on.
            if AssertUnwindSafe(start(&engine, std::mem::take(&mut batch))).catch_unwind().await.is_err() {
                tracing::error!("starting a batch of sagas panicked");
            }
        }
    }
}

/// Starts a batch, in parts where it must.
async fn start(engine: &Arc<Inner>, batch: Vec<Request>) {
    let mut parts = vec![Part { requests: batch, perhaps_committed: false }];
    while let Some(mut part) = parts.pop() {
        // Who does not wait for the answer any more has given the start up.
        part.requests.retain(|request| part.perhaps_committed || !request.tell.is_closed());
        if part.requests.is_empty() {
            continue;
        }
        let sagas: Vec<NewSaga> = part.requests.iter().map(|request| request.saga.clone()).collect();
        let answers = match patiently(engine, &sagas, &mut part.perhaps_committed).await {
            Ok(answers) => answers,
            Err(error) if sagas.len() == 1 || nobodys_fault(&error) => unavailable(&sagas, &error),
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
            let _ = request.tell.send(answer);
        }
    }
}

/// Starts that share a transaction.
struct Part {
    requests: Vec<Request>,
    /// A commit got no answer: some of them may stand.
    perhaps_committed: bool,
}

/// Whether the database is away, rather than one of the starts to blame. One that waits for somebody else's lock must
/// not keep the others.
fn nobodys_fault(error: &StepError) -> bool {
    matches!(error, StepError::Database(error) if is_transient(error) && !waited_for_lock(error))
}

fn unavailable(sagas: &[NewSaga], error: &(dyn std::error::Error + 'static)) -> Answers {
    let reason = crate::outcome::chain(error).join(": ");
    tracing::warn!(sagas = sagas.len(), error = %reason, "sagas could not be started");
    sagas.iter().map(|_| Err(StartError::Unavailable(reason.clone()))).collect()
}

async fn patiently(
    engine: &Arc<Inner>,
    sagas: &[NewSaga],
    perhaps_committed: &mut bool,
) -> Result<Answers, StepError> {
    let mut pause = Duration::from_millis(5);
    let mut tries = 0;
    loop {
        tries += 1;
        match once(engine, sagas, *perhaps_committed).await {
            Err((error, stage)) if nobodys_fault(&error) && tries < TRIES => {
                tracing::debug!(error = %error, "a batch of starts met trouble that may pass; trying again");
                *perhaps_committed |= stage == Stage::Commit;
                tokio::time::sleep(crate::clock::jittered(pause)).await;
                pause *= 4;
            }
            Err((error, stage)) => {
                *perhaps_committed |= stage == Stage::Commit;
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

async fn once(
    engine: &Arc<Inner>,
    sagas: &[NewSaga],
    perhaps_committed: bool,
) -> Result<Answers, (StepError, Stage)> {
    let before = |error: sqlx::Error| (StepError::from(error), Stage::Before);
    let mut connection = engine.pool.acquire().await.map_err(before)?;
    let (mut stage, mut course) = (Stage::Before, Course::default());
    let work = async {
        let mut transaction = connection.begin().await?;
        let mut tx = Tx::new(&mut transaction, engine);
        let started = start_in_tx(&mut tx, sagas.to_vec()).await;
        course = std::mem::take(&mut tx.course);
        let mut answers = started?;
        let after: AfterCommit = std::mem::take(&mut tx.after);
        stage = Stage::Commit;
        transaction.commit().await?;
        metrics::counter!("sagaline_commits_total", "kind" => "start").increment(1);
        engine.committed(after);
        if perhaps_committed {
            // Who is found under its own id was started by the commit that got no answer.
            for (saga, answer) in sagas.iter().zip(&mut answers) {
                if let Ok(started) = answer {
                    started.existing &= started.saga_id != saga.saga_id();
                }
            }
        }
        Ok(answers)
    };
    let result = match tokio::time::timeout(LIMIT, work).await {
        Ok(result) => result,
        // Before the commit one of them may be to blame: then they are tried apart.
        Err(_) if stage == Stage::Before => {
            course.midway = true;
            Err(StepError::Other("starting took too long".into()))
        }
        Err(_) => Err(StepError::Database(upkeep::late("committing starts took too long"))),
    };
    let usable = !course.midway
        && matches!(
            &result,
            Ok(_) | Err(StepError::Start(_) | StepError::Database(sqlx::Error::Database(_)))
        );
    if !usable {
        // Handing it back could wait on a dead socket for ever and keep its place in the pool.
        drop(connection.detach());
    }
    if course.midway
        && let Some(backend) = course.backend
        && let Err(error) = engine.terminate(backend).await
    {
        tracing::debug!(error = %error, "can't end a statement that nobody waits for");
    }
    result.map_err(|error| (error, stage))
}
