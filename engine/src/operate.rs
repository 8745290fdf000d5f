//! What people do to sagas: cancel, retry, discard. Every change is one transaction with its audit row.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::PgConnection;

use crate::{
    engine::{Engine, Inner},
    error::{CancelError, DeadJobError, StepSetError},
    graph::Graph,
    ids::{DeadJobId, SagaId},
    outcome::Cause,
    saga::Definition,
    status::Status,
    store::{
        self,
        moves::{HistoryRow, LockedSaga, MoveRow},
    },
    transition::{Event, Refusal, State, transition},
    tx::{AfterCommit, Tx},
    view::{DeadJobFilter, Ending, HistoryOutcome},
    watch::StatusChange,
};

/// What a cancel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelAnswer {
    /// The saga unwinds from now on (or had nothing to undo and has ended).
    Unwinding,
    /// A worker is in the middle of a step; the saga unwinds when that ends, unless it passes its pivot by then.
    Requested,
    /// It was unwinding already.
    AlreadyUnwinding,
}

impl Engine {
    /// Makes a saga unwind that has not passed its pivot.
    ///
    /// # Errors
    /// [`CancelError::PastPivot`] and [`CancelError::Ended`] when it is too late; nothing is changed then.
    pub async fn cancel(
        &self,
        saga_id: SagaId,
        actor: &str,
        reason: &str,
    ) -> Result<CancelAnswer, CancelError> {
        let mut transaction = self.inner.pool.begin().await?;
        let (answer, after) = cancel(&self.inner, &mut transaction, saga_id, actor, reason).await?;
        transaction.commit().await?;
        self.inner.committed(after);
        Ok(answer)
    }

    /// Puts a dead saga back to work exactly where it died, with fresh attempts.
    ///
    /// # Errors
    /// When there is no such dead job or somebody has acted on it already.
    pub async fn retry_dead_job(
        &self,
        id: DeadJobId,
        actor: &str,
        reason: &str,
    ) -> Result<SagaId, DeadJobError> {
        self.resolve(
            id,
            &Resolution { event: Event::Revived, name: "retried", action: "retry", actor, reason },
        )
        .await
    }

    /// Discards the open dead jobs that match, oldest first and at most `limit`, each in its own transaction; gives those
    /// discarded. One that somebody else acts on meanwhile is passed over.
    ///
    /// # Errors
    /// When the database is away; those discarded until then stay so.
    pub async fn discard_dead_jobs(
        &self,
        filter: &DeadJobFilter,
        limit: u32,
        actor: &str,
        reason: &str,
    ) -> Result<Vec<DeadJobId>, sqlx::Error> {
        let mut discarded = Vec::new();
        for id in store::dead_jobs::open_ids(self.pool(), filter, limit).await?.into_iter().map(DeadJobId) {
            discarded.extend(acted(self.discard_dead_job(id, actor, reason).await)?.map(|_| id));
        }
        Ok(discarded)
    }

    /// Retries the open dead jobs that match, oldest first and at most `limit`, each in its own transaction; gives those
    /// retried. One that somebody else acts on meanwhile is passed over.
    ///
    /// # Errors
    /// When the database is away; those retried until then stay so.
    pub async fn retry_dead_jobs(
        &self,
        filter: &DeadJobFilter,
        limit: u32,
        actor: &str,
        reason: &str,
    ) -> Result<Vec<DeadJobId>, sqlx::Error> {
        let mut retried = Vec::new();
        for id in store::dead_jobs::open_ids(self.pool(), filter, limit).await?.into_iter().map(DeadJobId) {
            retried.extend(acted(self.retry_dead_job(id, actor, reason).await)?.map(|_| id));
        }
        Ok(retried)
    }

    /// Gives a dead saga up for good; it stays `dead`, with an end.
    ///
    /// # Errors
    /// As [`Engine::retry_dead_job`].
    pub async fn discard_dead_job(
        &self,
        id: DeadJobId,
        actor: &str,
        reason: &str,
    ) -> Result<SagaId, DeadJobError> {
        self.resolve(
            id,
            &Resolution { event: Event::Discarded, name: "discarded", action: "discard", actor, reason },
        )
        .await
    }

    async fn resolve(&self, id: DeadJobId, resolution: &Resolution<'_>) -> Result<SagaId, DeadJobError> {
        let mut transaction = self.inner.pool.begin().await?;
        let (saga_id, after) = resolve(&self.inner, &mut transaction, id, resolution).await?;
        transaction.commit().await?;
        self.inner.committed(after);
        Ok(saga_id)
    }
}

/// Locks a saga without its dead job; and a dead job always after its saga.
async fn cancel(
    engine: &Inner,
    conn: &mut PgConnection,
    saga_id: SagaId,
    actor: &str,
    reason: &str,
) -> Result<(CancelAnswer, AfterCommit), CancelError> {
    let Some(row) = store::moves::lock(conn, saga_id.0).await? else {
        return Err(CancelError::NotFound(saga_id));
    };
    let subject = Subject::new(engine, saga_id, row)?;
    if subject.row.ended {
        return Err(CancelError::Ended(subject.state.status));
    }
    let event = Event::Cancel { actor: actor.into(), reason: reason.into() };
    let state = match transition(subject.graph(), &subject.state, &event) {
        Ok((state, _)) => state,
        Err(Refusal::AlreadyUnwinding) => {
            return Ok((CancelAnswer::AlreadyUnwinding, AfterCommit::default()));
        }
        Err(Refusal::Ended) => return Err(CancelError::Ended(subject.state.status)),
        Err(Refusal::PastPivot | Refusal::Impossible) => {
            let pivot = subject.graph().pivot().map(|at| subject.graph().steps[at].name.clone());
            return Err(CancelError::PastPivot { pivot: pivot.unwrap_or_else(|| subject.row.step.clone()) });
        }
    };
    if subject.row.leased {
        let request = serde_json::json!({ "actor": actor, "reason": reason });
        store::moves::request_cancel(conn, saga_id.0, &request).await?;
        store::moves::audit(conn, actor, "cancel", saga_id.0, None, reason).await?;
        return Ok((CancelAnswer::Requested, AfterCommit::default()));
    }
    let dead_job = store::dead_jobs::resolve(conn, saga_id.0, "cancelled", actor, reason).await?;
    store::moves::audit(conn, actor, "cancel", saga_id.0, dead_job, reason).await?;
    let why = format!("cancelled by {actor}: {reason}");
    let after = subject.decide(engine, conn, state, HistoryOutcome::Cancelled, why, false).await?;
    Ok((CancelAnswer::Unwinding, after))
}

struct Resolution<'a> {
    event: Event,
    name: &'a str,
    action: &'a str,
    actor: &'a str,
    reason: &'a str,
}

async fn resolve(
    engine: &Inner,
    conn: &mut PgConnection,
    id: DeadJobId,
    resolution: &Resolution<'_>,
) -> Result<(SagaId, AfterCommit), DeadJobError> {
    let Some(dead_job) = store::dead_jobs::dead_job_saga(conn, id.0).await? else {
        return Err(gone(conn, id).await?);
    };
    let saga_id = SagaId(dead_job);
    // The saga first, as a cancel does, so that the two can't wait for each other.
    let row = store::moves::lock(conn, saga_id.0).await?;
    match store::dead_jobs::lock(conn, id.0).await? {
        None => return Err(gone(conn, id).await?),
        Some((_, Some(done))) => return Err(DeadJobError::AlreadyResolved(done)),
        Some((_, None)) => {}
    }
    let Some(row) = row else { return Err(DeadJobError::NotFound(id)) };
    let subject = Subject::new(engine, saga_id, row)?;
    let Ok((state, _)) = transition(subject.graph(), &subject.state, &resolution.event) else {
        let moved_on = format!("moved on: its saga is {}", subject.state.status);
        return Err(DeadJobError::AlreadyResolved(moved_on));
    };
    let Resolution { name, action, actor, reason, .. } = *resolution;
    store::dead_jobs::resolve(conn, saga_id.0, name, actor, reason).await?;
    store::moves::audit(conn, actor, action, saga_id.0, Some(id.0), reason).await?;
    let (outcome, discarded) = match resolution.event {
        Event::Discarded => (HistoryOutcome::Discarded, true),
        _ => (HistoryOutcome::Revived, false),
    };
    let why = format!("{name} by {actor}: {reason}");
    let after = subject.decide(engine, conn, state, outcome, why, discarded).await?;
    Ok((saga_id, after))
}

/// Why there is no dead job of this id.
async fn gone(conn: &mut PgConnection, id: DeadJobId) -> Result<DeadJobError, sqlx::Error> {
    let archived = store::archive::is_archived(conn, id.0).await?;
    Ok(if archived { DeadJobError::Archived(id) } else { DeadJobError::NotFound(id) })
}

/// Of many, those that somebody else has acted on are passed over.
fn acted(result: Result<SagaId, DeadJobError>) -> Result<Option<SagaId>, sqlx::Error> {
    match result {
        Ok(saga_id) => Ok(Some(saga_id)),
        Err(DeadJobError::NotFound(_) | DeadJobError::AlreadyResolved(_) | DeadJobError::Archived(_)) => {
            Ok(None)
        }
        Err(DeadJobError::Database(error)) => Err(error),
    }
}

/// Ends a dead saga as it is; `None` when it is not dead, or has ended. Its dead job is the caller's.
pub(crate) async fn end_dead(
    engine: &Inner,
    conn: &mut PgConnection,
    saga_id: SagaId,
    why: &str,
) -> Result<Option<AfterCommit>, sqlx::Error> {
    let Some(row) = store::moves::lock(conn, saga_id.0).await? else { return Ok(None) };
    let subject = Subject::new(engine, saga_id, row)?;
    if subject.row.ended {
        return Ok(None);
    }
    let Ok((state, _)) = transition(subject.graph(), &subject.state, &Event::Discarded) else {
        return Ok(None);
    };
    subject.decide(engine, conn, state, HistoryOutcome::Discarded, why.into(), true).await.map(Some)
}

/// A locked saga that a person decides about.
struct Subject {
    saga_id: SagaId,
    row: LockedSaga,
    state: State,
    definition: Option<Arc<Definition>>,
}

impl Subject {
    fn new(engine: &Inner, saga_id: SagaId, row: LockedSaga) -> Result<Self, sqlx::Error> {
        let definition = engine.definitions.get(&row.definition).cloned();
        let at = definition
            .as_ref()
            .and_then(|known| known.positions.get(&row.step).copied())
            .unwrap_or(usize::MAX);
        let unreadable = |error: String| sqlx::Error::Decode(error.into());
        let cause: Option<Cause> = row
            .cause
            .clone()
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| unreadable(error.to_string()))?;
        let state = State {
            status: row.status.parse().map_err(unreadable)?,
            at,
            direction: row.direction.parse().map_err(unreadable)?,
            attempt: u32::try_from(row.attempt).unwrap_or_default(),
            losses: u32::try_from(row.losses).unwrap_or_default(),
            in_doubt: row.in_doubt,
            cause,
        };
        Ok(Self { saga_id, row, state, definition })
    }

    fn graph(&self) -> &Graph {
        self.definition.as_ref().map_or(&crate::graph::NO_GRAPH, |definition| &definition.graph)
    }

    /// Writes the new state, its history row, and tells the watch.
    async fn decide(
        &self,
        engine: &Inner,
        conn: &mut PgConnection,
        state: State,
        outcome: HistoryOutcome,
        why: String,
        discarded: bool,
    ) -> Result<AfterCommit, sqlx::Error> {
        let step =
            self.graph().steps.get(state.at).map_or_else(|| self.row.step.clone(), |node| node.name.clone());
        let seq = self.row.history_seq + 1;
        let entry = HistoryRow {
            saga_id: self.saga_id.0,
            seq,
            step: self.row.step.clone(),
            direction: self.state.direction.name(),
            outcome,
            attempt: 0,
            started: Instant::now(),
            duration: Duration::ZERO,
            output: None,
            error: vec![why.clone()],
            epoch: self.row.epoch,
        };
        store::moves::append_history(conn, &[entry], engine.worker).await?;
        let revived = outcome == HistoryOutcome::Revived;
        let row = MoveRow {
            id: self.saga_id.0,
            epoch: self.row.epoch,
            status: state.status.name(),
            step,
            direction: state.direction.name(),
            attempt: i32::try_from(state.attempt).unwrap_or(i32::MAX),
            losses: i32::try_from(state.losses).unwrap_or(i32::MAX),
            in_doubt: state.in_doubt,
            seq,
            held: false,
            delay_ms: 0,
            heeds_deadline: false,
            keeps_cancel: false,
            cause: state.cause.as_ref().and_then(|cause| serde_json::to_string(cause).ok()),
            error: if revived { None } else { Some(why) },
        };
        store::moves::decide(conn, &row, discarded).await?;
        self.tell(engine, conn, &state, row.error).await
    }

    async fn tell(
        &self,
        engine: &Inner,
        conn: &mut PgConnection,
        state: &State,
        error: Option<String>,
    ) -> Result<AfterCommit, sqlx::Error> {
        let mut tx = Tx::new(conn, engine);
        let was_dead = self.state.status == Status::Dead;
        let rests = !state.status.moves();
        if (was_dead != (state.status == Status::Dead) || (rests && !was_dead))
            && let Some(watch) = self.definition.as_ref().and_then(|definition| definition.watch.as_ref())
        {
            let change = StatusChange {
                saga_id: self.saga_id,
                input: Arc::from(self.row.input.0.clone()),
                status: state.status,
                cause: state.cause.clone(),
                error,
            };
            watch.changed(&mut tx, &[change]).await.map_err(|error| match error {
                StepSetError::Database(error) => error,
                other @ (StepSetError::Start(_) | StepSetError::Other(_)) => {
                    sqlx::Error::Protocol(other.to_string())
                }
            })?;
        }
        let mut after = std::mem::take(&mut tx.after);
        if rests {
            after.ended.push((self.saga_id, Ending { status: state.status, cause: state.cause.clone() }));
        } else {
            store::starts::notify_due(&mut tx, std::slice::from_ref(&self.row.queue)).await?;
            after.due.entry(self.row.queue.clone()).or_default().push(self.saga_id);
        }
        Ok(after)
    }
}
