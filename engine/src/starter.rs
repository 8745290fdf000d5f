//! Group commit of starts: what arrives while the last batch is being committed is the next one.

use std::{collections::HashSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use sqlx::Acquire;
use tokio::sync::{mpsc, oneshot};

use crate::{
    engine::Inner,
    error::{StartError, StepSetError},
    start::{NewSaga, Started, start_in_tx},
    store,
    trouble::is_transient,
    tx::{AfterCommit, Tx},
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
            count = arrivals.recv_many(&mut batch, engine.settings.max_set) => count,
            () = engine.stop.cancelled() => { arrivals.close(); 0 }
        };
        if arrived == 0 && arrivals.is_closed() && arrivals.is_empty() {
            return;
        }
        if !batch.is_empty() {
            crate::lane::gather(&mut batch, &mut arrivals, engine.settings.max_set).await;
            // Callers whose batch panicked hear that the engine does not answer; the others go on.
            if AssertUnwindSafe(start(&engine, std::mem::take(&mut batch))).catch_unwind().await.is_err() {
                tracing::error!("starting a batch of sagas panicked");
            }
        }
    }
}

/// Starts a batch, in parts where it must.
async fn start(engine: &Arc<Inner>, batch: Vec<Request>) {
    let mut parts = vec![batch];
    while let Some(mut part) = parts.pop() {
        let sagas: Vec<NewSaga> = part.iter().map(|request| request.saga.clone()).collect();
        let answers = match patiently(engine, &sagas).await {
            Ok(answers) => answers,
            Err(StepSetError::Database(error)) if is_transient(&error) => unavailable(&sagas, &error),
            Err(error) if sagas.len() == 1 => unavailable(&sagas, &error),
            Err(error) => {
                tracing::debug!(sagas = sagas.len(), error = %error, "a batch of starts failed; splitting it");
                let second = part.split_off(part.len() / 2);
                parts.push(second);
                parts.push(part);
                continue;
            }
        };
        for (request, answer) in part.into_iter().zip(answers) {
            // A caller that has gone does not need to know.
            let _ = request.tell.send(answer);
        }
    }
}

fn unavailable(sagas: &[NewSaga], error: &(dyn std::error::Error + 'static)) -> Answers {
    let reason = crate::outcome::chain(error).join(": ");
    tracing::warn!(sagas = sagas.len(), error = %reason, "sagas could not be started");
    sagas.iter().map(|_| Err(StartError::Unavailable(reason.clone()))).collect()
}

async fn patiently(engine: &Arc<Inner>, sagas: &[NewSaga]) -> Result<Answers, StepSetError> {
    let mut pause = Duration::from_millis(5);
    let mut tries = 0;
    let mut perhaps_committed = false;
    loop {
        tries += 1;
        match once(engine, sagas, perhaps_committed).await {
            Err((StepSetError::Database(error), stage)) if is_transient(&error) && tries < TRIES => {
                tracing::debug!(error = %error, "a batch of starts met trouble that may pass; trying again");
                perhaps_committed |= stage == Stage::Commit;
                tokio::time::sleep(crate::clock::jittered(pause)).await;
                pause *= 4;
            }
            Err((error, _)) => return Err(error),
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
) -> Result<Answers, (StepSetError, Stage)> {
    let before = |error: sqlx::Error| (StepSetError::from(error), Stage::Before);
    let mut connection = engine.pool.acquire().await.map_err(before)?;
    let mut stage = Stage::Before;
    let work = async {
        // A batch whose commit got no answer may stand: whoever is there already has been started by it.
        let mine = if perhaps_committed {
            let ids: Vec<_> = sagas.iter().map(|saga| saga.saga_id().0).collect();
            store::reads::which_exist(&mut connection, &ids).await?.into_iter().collect::<HashSet<_>>()
        } else {
            HashSet::new()
        };
        let mut transaction = connection.begin().await?;
        let mut tx = Tx::new(&mut transaction, engine);
        let mut answers = start_in_tx(&mut tx, sagas.to_vec()).await?;
        let after: AfterCommit = std::mem::take(&mut tx.after);
        stage = Stage::Commit;
        transaction.commit().await?;
        metrics::counter!("sagaline_commits_total", "kind" => "start").increment(1);
        engine.committed(after);
        for (saga, answer) in sagas.iter().zip(&mut answers) {
            if let Ok(started) = answer
                && mine.contains(&saga.saga_id().0)
            {
                started.existing = false;
            }
        }
        Ok(answers)
    };
    let result = tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| {
        let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "starting took too long");
        Err(StepSetError::Database(sqlx::Error::Io(late)))
    });
    let usable = matches!(
        &result,
        Ok(_) | Err(StepSetError::Start(_) | StepSetError::Database(sqlx::Error::Database(_)))
    );
    if !usable {
        // Handing it back could wait on a dead socket for ever and keep its place in the pool.
        drop(connection.detach());
    }
    result.map_err(|error| (error, stage))
}
