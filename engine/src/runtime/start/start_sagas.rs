//! Starts sagas: in the caller's transaction, in a step's transaction, or in a batch with those of other callers.

use std::collections::HashSet;

use futures::future::BoxFuture;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    definition::{
        new_saga::{NewSaga, Started},
        tx::TxHost,
    },
    model::{
        error::{StartError, StepError},
        ids::SagaId,
        signal::{Signal, SignalError, SignalReceipt, SignalState, SignalTarget},
        status::Status,
    },
    runtime::{
        core::Core,
        effects::Session,
        send_signal,
        start::{
            entry::run_entry_steps,
            validate::{ValidatedStart, refused_signal, validate},
        },
    },
    store::{
        self,
        starts::{ExistingSaga, NewSagaRow},
    },
};

/// Whether this process may claim the sagas that it starts, in the same commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimOnStart {
    /// It claims those for which a feed of this process has a slot.
    Yes,
    /// It does not, because the transaction is the caller's and its commit is not observed here.
    No,
}

impl TxHost for Session<'_> {
    fn start<'a>(
        &'a mut self,
        conn: &'a mut PgConnection,
        sagas: Vec<NewSaga>,
    ) -> BoxFuture<'a, Result<Vec<Result<Started, StartError>>, StepError>> {
        Box::pin(start(self, conn, sagas, ClaimOnStart::Yes))
    }

    fn signal<'a>(
        &'a mut self,
        conn: &'a mut PgConnection,
        target: SignalTarget,
        signal: Signal,
    ) -> BoxFuture<'a, Result<SignalReceipt, SignalError>> {
        Box::pin(async move {
            let receipt = send_signal::send(self.core, conn, &target, &signal).await?;
            if receipt.state == SignalState::Buffered {
                self.effects.signalled.push(receipt.saga_id);
            }
            Ok(receipt)
        })
    }
}

/// Starts sagas in a transaction and returns an answer for each. Jobs of sagas that are claimed in the same commit are
/// in the session's effects.
pub(crate) async fn start(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    sagas: Vec<NewSaga>,
    claiming: ClaimOnStart,
) -> Result<Vec<Result<Started, StartError>>, StepError> {
    let core = session.core;
    let mut answers: Vec<Option<Result<Started, StartError>>> = vec![None; sagas.len()];
    let mut validated: Vec<(usize, ValidatedStart)> = Vec::with_capacity(sagas.len());
    for (index, new) in sagas.iter().enumerate() {
        match validate(core, new) {
            Ok(mut start) => {
                if claiming == ClaimOnStart::Yes
                    && start.state.status == Status::Running
                    && start.begins.is_none()
                {
                    start.slots = core.feeds.slot(&start.definition.graph.queue);
                }
                validated.push((index, start));
            }
            Err(error) => answers[index] = Some(Err(error)),
        }
    }
    // Every batch inserts in this order, so that two batches with the same business keys wait for each other instead of
    // deadlocking.
    validated.sort_by(|(_, a), (_, b)| {
        (&a.definition.graph.name, &a.business_key, a.id).cmp(&(
            &b.definition.graph.name,
            &b.business_key,
            b.id,
        ))
    });

    if claiming == ClaimOnStart::No {
        core.graphs.ensure_stored_apart(&core.definitions, &core.pool).await?;
    }
    let new_ids = if validated.is_empty() { Vec::new() } else { insert(core, conn, &validated).await? };
    session.user_code.backend_pid = new_ids.first().map(|(_, backend_pid)| *backend_pid);
    let (mut fresh, mut known) = split(validated, new_ids);
    if !known.is_empty() {
        let mut existing = existing(conn, &known).await?;
        if existing.iter().any(ExistingSaga::is_gone) {
            store::starts::forget_free_keys(conn, &rows(&known)).await?;
            let new_ids = insert(core, conn, &known).await?;
            let (reused, still_known) = split(known, new_ids);
            fresh.extend(reused);
            known = still_known;
            existing = self::existing(conn, &known).await?;
        }
        for ((index, _), found) in known.iter().zip(existing) {
            let key_kept_until = found.key_kept_until;
            answers[*index] = Some(match found.saga_id {
                Some(id) => Ok(Started { saga_id: SagaId(id), existing: true, key_kept_until }),
                // The existing saga's start was rolled back, or the saga and its key were deleted, since the insert:
                // the caller may try again.
                None => Err(StartError::Unavailable("the saga with this key just ceased to exist".into())),
            });
        }
    }
    delay(conn, &mut fresh).await?;
    let outer = session.savepoints.begin_part();
    let refused = run_entry_steps(session, conn, fresh, &mut answers).await;
    session.savepoints.end_part(outer);
    let refused = refused?;
    if claiming == ClaimOnStart::No && !session.effects.due.is_empty() {
        let queues: Vec<&str> = session.effects.due.keys().map(String::as_str).collect();
        store::hints::notify_due_at_commit(conn, &queues).await?;
    }
    // A duplicate within the batch refers to the first start of its key. If that one was refused, the duplicate is
    // refused, too.
    for (index, _) in &known {
        if let Some(Ok(started)) = &answers[*index]
            && let Some(error) = refused.get(&started.saga_id.0)
        {
            answers[*index] = Some(Err(error.clone()));
        }
    }
    send_signals(session, conn, &sagas, &mut answers, claiming).await?;
    Ok(answers
        .into_iter()
        .map(|answer| answer.unwrap_or_else(|| Err(StartError::Unavailable("no answer".into()))))
        .collect())
}

/// Lets those of these sagas sleep that are not to go on at once.
async fn delay(conn: &mut PgConnection, fresh: &mut [Placed]) -> Result<(), sqlx::Error> {
    let later: Vec<_> = fresh.iter().filter_map(|(_, start)| Some((start.id.0, start.begins?))).collect();
    if later.is_empty() {
        return Ok(());
    }
    let delayed: HashSet<Uuid> = store::starts::delay(conn, &later).await?.into_iter().collect();
    for (_, start) in fresh {
        start.sleeps = delayed.contains(&start.id.0);
    }
    Ok(())
}

/// Sends the signals of starts that were not refused. If one is refused because of the existing saga, so is its start.
async fn send_signals(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    sagas: &[NewSaga],
    answers: &mut [Option<Result<Started, StartError>>],
    claiming: ClaimOnStart,
) -> Result<(), StepError> {
    for (new, answer) in sagas.iter().zip(answers) {
        let (Some(signal), Some(Ok(started))) = (&new.signal, &*answer) else { continue };
        let target = SignalTarget::Saga(started.saga_id);
        // A start that is tried again, after a commit whose answer was lost, sends the same signal again.
        let signal = signal.clone().key_or(|| format!("start {}", new.id));
        match send_signal::send(session.core, conn, &target, &signal).await {
            Ok(SignalReceipt { saga_id, state: SignalState::Buffered, .. }) if started.existing => {
                match claiming {
                    ClaimOnStart::Yes => session.effects.signalled.push(saga_id),
                    ClaimOnStart::No => store::hints::notify_signalled_at_commit(conn, saga_id.0).await?,
                }
            }
            // The saga reads it when it comes to its wait.
            Ok(_) => {}
            Err(SignalError::Database(error)) => return Err(error.into()),
            Err(error) => *answer = Some(Err(refused_signal(&error))),
        }
    }
    Ok(())
}

/// A start, with its place among those that the caller gave.
type Placed = (usize, ValidatedStart);

async fn insert(
    core: &Core,
    conn: &mut PgConnection,
    starts: &[Placed],
) -> Result<Vec<(Uuid, i32)>, sqlx::Error> {
    store::starts::insert(conn, &rows(starts), core.worker, core.lease_ms()).await
}

async fn existing(conn: &mut PgConnection, known: &[Placed]) -> Result<Vec<ExistingSaga>, sqlx::Error> {
    store::starts::existing(conn, &rows(known)).await
}

fn rows(starts: &[Placed]) -> Vec<NewSagaRow<'_>> {
    starts.iter().map(|(_, start)| start.row()).collect()
}

/// Splits starts into those whose sagas were inserted, and those whose id or key was taken.
fn split(starts: Vec<Placed>, new_ids: Vec<(Uuid, i32)>) -> (Vec<Placed>, Vec<Placed>) {
    let mut new_ids: HashSet<Uuid> = new_ids.into_iter().map(|(id, _)| id).collect();
    starts.into_iter().partition(|(_, start)| new_ids.remove(&start.id.0))
}
