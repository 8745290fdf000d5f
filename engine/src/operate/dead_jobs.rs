//! Retries and discards dead jobs, one at a time or, by a plan, many; or has it done by a process with the code of their
//! sagas.

pub(crate) mod bulk;
pub(crate) mod requests;

use serde_json::json;
use sqlx::PgConnection;

use crate::{
    engine::Engine,
    model::{
        audit::Operator,
        cause::CancelOrigin,
        child::LeftChildren,
        dead_job::DeadJobResolution,
        dead_job_request::{ActionRequested, DeadJobAction, DeadJobOutcome, DiscardMode},
        error::DeadJobError,
        graph::Graph,
        ids::{DeadJobId, SagaId},
        kinds::UndoKind,
        pending_cancel::{IfLate, PendingCancel},
        status::{Direction, Status},
        transition::{DiscardEffect, Event, State, discard, transition},
        views::HistoryOutcome,
    },
    operate::decision::{LoadedSaga, SagaGraph},
    runtime::{
        core::Core,
        effects::{self, CommitEffects},
    },
    store::{
        self,
        audit::{AuditEntry, AuditReason},
        children::OpenChildren,
        decisions::SagaLock,
    },
};

/// The result of a discard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// The id of the saga.
    pub saga_id: SagaId,
    /// Whether the saga compensates, ended as it was, or was abandoned.
    pub effect: DiscardEffect,
    /// What becomes of its children, if it ended as it was while they had not ended.
    pub left_children: LeftChildren,
}

impl Engine {
    /// Makes a dead saga continue exactly where it died, with fresh attempts. If this process lacks the saga's code, that
    /// is [requested](DeadJobOutcome::Requested): a process that has the code does it. A request for the same stands,
    /// another one is replaced, and all are void once the dead job is resolved in another way.
    ///
    /// # Errors
    /// When there is no such dead job, or an operator has already acted on it.
    pub async fn retry_dead_job(
        &self,
        id: DeadJobId,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<DeadJobOutcome<SagaId>, DeadJobError> {
        let done = self.act(id, DeadJobAction::Retry, None, &by.into(), reason).await?;
        Ok(done.map(|done| done.saga_id))
    }

    /// Gives a dead saga up for good. A saga that can still compensate does so, as if it had been cancelled; a saga
    /// past its pivot stays `dead`, and ends. See [`DiscardEffect`]. If this process lacks the saga's code, that is
    /// requested, as by [`Engine::retry_dead_job`]; but if the discard is forced and no live process has the code either,
    /// the saga is abandoned at once.
    ///
    /// # Errors
    /// As [`Engine::retry_dead_job`]; and [`DeadJobError::NotUndone`] for a saga that died while compensating, unless
    /// the discard is forced.
    pub async fn discard_dead_job(
        &self,
        id: DeadJobId,
        mode: DiscardMode,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<DeadJobOutcome<Discarded>, DeadJobError> {
        let done = self.act(id, DeadJobAction::Discard(mode), None, &by.into(), reason).await?;
        Ok(done.map(|Acted { saga_id, discarded, left_children }| {
            let effect = discarded.unwrap_or(DiscardEffect::Finish);
            Discarded { saga_id, effect, left_children }
        }))
    }

    async fn act(
        &self,
        id: DeadJobId,
        action: DeadJobAction,
        planned: Option<DeadJobEffect>,
        by: &Operator<'_>,
        reason: &str,
    ) -> Result<DeadJobOutcome<Acted>, DeadJobError> {
        let mut transaction = self.core.pool.begin().await?;
        let (done, after) =
            act(&self.core, &mut transaction, id, Act { action, planned, by, reason }).await?;
        transaction.commit().await?;
        effects::publish(&self.core, after);
        Ok(done)
    }
}

/// An action, by whom and why.
#[derive(Clone, Copy)]
struct Act<'a> {
    action: DeadJobAction,
    /// The effect that it must have, if it was planned.
    planned: Option<DeadJobEffect>,
    by: &'a Operator<'a>,
    reason: &'a str,
}

/// What an action does to the saga of one dead job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadJobEffect {
    /// It continues where it died.
    Retried,
    /// It is given up, with this effect.
    Discarded(DiscardEffect),
    /// Nothing yet: this process lacks its code, so a process that has it is asked.
    Requested,
}

struct Acted {
    saga_id: SagaId,
    /// How it was given up; `None` if it was retried.
    discarded: Option<DiscardEffect>,
    left_children: LeftChildren,
}

/// A dead saga, as far as it matters for what an action does to it.
#[derive(Clone, Copy)]
struct DeadSaga<'a> {
    graph: &'a SagaGraph,
    state: &'a State,
    step: &'a str,
    /// Whether a live process has its code, if this one does not.
    is_known_elsewhere: bool,
}

/// Whether a live process has the code of a graph, if this one does not.
async fn is_known_elsewhere(
    core: &Core,
    conn: &mut PgConnection,
    graph: &SagaGraph,
    hash: &str,
) -> Result<bool, sqlx::Error> {
    Ok(!graph.is_registered() && store::processes::is_known(conn, hash, core.settings.alive_ms()).await?)
}

/// Decides what an action does to a saga. Its observer has to be told, so only a process that has its code acts, and
/// another one asks for it, unless the stored graph tells that it does not apply. If no live process has the code any
/// more, a forced discard ends the saga as it is, and tells no observer.
///
/// # Errors
/// [`DeadJobError::NotUndone`] or [`DeadJobError::AlreadyResolved`] when the action does not apply.
fn decide(saga: DeadSaga<'_>, action: DeadJobAction) -> Result<DeadJobEffect, DeadJobError> {
    let DeadSaga { graph, state, step, is_known_elsewhere } = saga;
    if state.status != Status::Dead {
        return Err(moved_on(state));
    }
    let effect = match action {
        DeadJobAction::Retry => DeadJobEffect::Retried,
        DeadJobAction::Discard(DiscardMode::Force) if !graph.is_registered() && !is_known_elsewhere => {
            return Ok(DeadJobEffect::Discarded(DiscardEffect::Abandon));
        }
        DeadJobAction::Discard(mode) => match (discard(graph.graph(), state), mode) {
            (DiscardEffect::Abandon, DiscardMode::Safe) if !graph.is_unknown() => {
                let why = not_undone(graph.graph(), state, step);
                return Err(DeadJobError::NotUndone { step: step.into(), why });
            }
            (effect, DiscardMode::Safe | DiscardMode::Force) => DeadJobEffect::Discarded(effect),
        },
    };
    Ok(if graph.is_registered() { effect } else { DeadJobEffect::Requested })
}

fn moved_on(state: &State) -> DeadJobError {
    DeadJobError::AlreadyResolved(format!("moved on: its saga is {}", state.status))
}

/// Acts on one dead job, or stores that it is asked for.
async fn act(
    core: &Core,
    conn: &mut PgConnection,
    id: DeadJobId,
    asked: Act<'_>,
) -> Result<(DeadJobOutcome<Acted>, CommitEffects), DeadJobError> {
    let Act { action, planned, by, reason } = asked;
    let Some(saga_id) = store::dead_jobs::dead_job_saga(conn, id.0).await? else {
        return Err(gone(conn, id).await?);
    };
    let saga_id = SagaId(saga_id);
    // The saga is locked first, as in a cancel, so that the two can't deadlock.
    let row = store::decisions::load(conn, saga_id.0, SagaLock::Wait).await?;
    let Some(job) = store::dead_jobs::lock(conn, id.0).await? else { return Err(gone(conn, id).await?) };
    if let Some(done) = job.resolution {
        return Err(DeadJobError::AlreadyResolved(done));
    }
    let Some(row) = row else { return Err(DeadJobError::NotFound(id)) };
    let saga = LoadedSaga::new(core, conn, saga_id, row).await?;
    let dead = DeadSaga {
        graph: &saga.graph,
        state: &saga.state,
        step: &saga.row.step,
        is_known_elsewhere: is_known_elsewhere(core, conn, &saga.graph, &saga.row.graph_hash).await?,
    };
    let effect = decide(dead, action)?;
    if planned.is_some_and(|planned| planned != effect) {
        return Err(DeadJobError::NotAsPlanned);
    }
    let left_children = cancel_children(conn, &saga, effect, action, (by.actor, reason)).await?;
    let discarded = match effect {
        DeadJobEffect::Retried => None,
        DeadJobEffect::Discarded(effect) => Some(effect),
        DeadJobEffect::Requested => {
            let waits_for_version = !dead.is_known_elsewhere;
            requests::put(conn, &saga, (id, job.request.as_ref()), asked).await?;
            let graph_hash = saga.row.graph_hash;
            let requested = ActionRequested { saga_id, graph_hash, waits_for_version };
            return Ok((DeadJobOutcome::Requested(requested), CommitEffects::default()));
        }
    };
    let (state, outcome) = changed(&saga, discarded, by, reason)?;
    record(conn, &saga, (id, discarded, &state, left_children), by, reason).await?;
    if !saga.is_registered() {
        // No process is left that would deliver them.
        let noted = store::inbox::unread_cancels(conn, &[saga_id.0]).await?;
        let noted: Vec<i64> = noted.iter().map(|message| message.id).collect();
        store::inbox::settle(conn, &[], &noted).await?;
    }
    let why = format!("{} by {}: {reason}", resolution(discarded), by.actor);
    let mut after = saga.apply(core, conn, state, outcome, why).await?;
    after.sent_cancels |= left_children.cancelled > 0;
    Ok((DeadJobOutcome::Done(Acted { saga_id, discarded, left_children }), after))
}

/// The state of a saga that is retried or discarded, and the entry of its history.
fn changed(
    saga: &LoadedSaga,
    discarded: Option<DiscardEffect>,
    by: &Operator<'_>,
    reason: &str,
) -> Result<(State, HistoryOutcome), DeadJobError> {
    let (event, outcome) = match discarded {
        None => (Event::Retried, HistoryOutcome::Retried),
        Some(DiscardEffect::Compensate) => {
            let (actor, reason, origin) = (by.actor.into(), reason.into(), CancelOrigin::Discarded);
            (Event::Cancel { actor, reason, origin }, HistoryOutcome::Cancelled)
        }
        Some(DiscardEffect::Finish | DiscardEffect::Abandon) => (Event::Discarded, HistoryOutcome::Discarded),
    };
    match transition(saga.graph(), &saga.state, &event) {
        Ok((state, _)) => Ok((state, outcome)),
        Err(_) => Err(moved_on(&saga.state)),
    }
}

fn resolution(discarded: Option<DiscardEffect>) -> DeadJobResolution {
    discarded.map_or(DeadJobResolution::Retried, |_| DeadJobResolution::Discarded)
}

/// Resolves the dead job of a saga, and records who did it and what the saga becomes.
async fn record(
    conn: &mut PgConnection,
    saga: &LoadedSaga,
    (id, discarded, state, left_children): (DeadJobId, Option<DiscardEffect>, &State, LeftChildren),
    by: &Operator<'_>,
    reason: &str,
) -> Result<(), sqlx::Error> {
    store::dead_jobs::resolve(conn, saga.saga_id.0, resolution(discarded), by.actor, reason).await?;
    let mut after = saga.audit_json_as(state);
    match discarded {
        None | Some(DiscardEffect::Compensate) => {}
        Some(DiscardEffect::Finish) => after["ended"] = true.into(),
        Some(DiscardEffect::Abandon) => (after["ended"], after["abandoned"]) = (true.into(), true.into()),
    }
    if left_children != LeftChildren::default() {
        after["left_children"] = json!({"cancelled": left_children.cancelled, "go_on": left_children.go_on});
    }
    let action = if discarded.is_some() { "discard" } else { "retry" };
    let request = AuditReason { by, action, reason };
    let (saga_id, before) = (saga.saga_id, saga.audit_json());
    store::audit::record(conn, &AuditEntry { request, saga_id, dead_job_id: Some(id.0), before, after }).await
}

/// A saga that ends as it is must not leave children behind that run on without it: a discard of one that has any is
/// refused, and if it is forced, they are cancelled; those that are past their own pivot go on all the same. One that
/// compensates undoes them itself.
async fn cancel_children(
    conn: &mut PgConnection,
    saga: &LoadedSaga,
    effect: DeadJobEffect,
    action: DeadJobAction,
    (actor, reason): (&str, &str),
) -> Result<LeftChildren, DeadJobError> {
    let none = LeftChildren::default();
    match (effect, action) {
        (DeadJobEffect::Discarded(DiscardEffect::Finish | DiscardEffect::Abandon), _) => {}
        // The stored graph tells that it would end as it is.
        (DeadJobEffect::Requested, DeadJobAction::Discard(DiscardMode::Safe))
            if !saga.graph.is_unknown() && discard(saga.graph(), &saga.state) == DiscardEffect::Finish => {}
        (
            DeadJobEffect::Retried
            | DeadJobEffect::Requested
            | DeadJobEffect::Discarded(DiscardEffect::Compensate),
            _,
        ) => return Ok(none),
    }
    let OpenChildren { open, past_pivot } = store::children::count_open(conn, saga.saga_id.0).await?;
    match action {
        _ if open == 0 => Ok(none),
        DeadJobAction::Discard(DiscardMode::Force) => {
            let cancel = PendingCancel::new(actor, reason, IfLate::Drop);
            store::children::cancel_open(conn, saga.saga_id.0, &cancel).await?;
            Ok(LeftChildren { cancelled: open - past_pivot, go_on: past_pivot })
        }
        DeadJobAction::Discard(DiscardMode::Safe) | DeadJobAction::Retry => {
            Err(DeadJobError::NotUndone { step: saga.row.step.clone(), why: going_on(open, past_pivot) })
        }
    }
}

/// Describes which children a discard would leave behind.
fn going_on(open: i64, past_pivot: i64) -> String {
    let why = format!("{open} of its children have not ended, and would go on without it");
    match past_pivot {
        0 => why,
        _ => {
            format!("{why}, {past_pivot} of them also if it is forced, because they are past their own pivot")
        }
    }
}

/// Describes what a discard would leave without an undo, as far as this process knows.
fn not_undone(graph: &Graph, state: &State, step: &str) -> String {
    if state.direction == Direction::Action || state.step_index >= graph.steps.len() {
        return format!(
            "this process does not know its step `{step}`, and so not which effects would remain"
        );
    }
    let standing: Vec<_> = graph
        .path(&state.arms, state.step_index + 1)
        .map(|at| &graph.steps[at])
        .filter(|node| node.undo == UndoKind::HasUndo)
        .map(|node| format!("`{}`", node.name))
        .collect();
    format!("it died while compensating, and these steps are not undone: {}", standing.join(", "))
}

/// The error for a dead job that is not open: archived or not found.
async fn gone(conn: &mut PgConnection, id: DeadJobId) -> Result<DeadJobError, sqlx::Error> {
    let archived = store::archive::is_archived(conn, id.0).await?;
    Ok(if archived { DeadJobError::Archived(id) } else { DeadJobError::NotFound(id) })
}
