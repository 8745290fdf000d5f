//! Retries and discards dead jobs, one at a time or, by a plan, many.

pub(crate) mod bulk;

use serde_json::json;
use sqlx::PgConnection;

use crate::{
    engine::Engine,
    model::{
        audit::Operator,
        cause::CancelOrigin,
        child::LeftChildren,
        dead_job::DeadJobResolution,
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

/// Whether a discard may leave effects that are not undone, because the undo itself is what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardMode {
    /// It may not: the discard is refused. The operator should fix the cause and retry the undo.
    Safe,
    /// It may: an operator has reversed the effects by hand.
    Force,
}

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
    /// Makes a dead saga continue exactly where it died, with fresh attempts.
    ///
    /// # Errors
    /// When there is no such dead job, or an operator has already acted on it.
    pub async fn retry_dead_job(
        &self,
        id: DeadJobId,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<SagaId, DeadJobError> {
        self.act(id, DeadJobAction::Retry, None, &by.into(), reason).await.map(|done| done.saga_id)
    }

    /// Gives a dead saga up for good. A saga that can still compensate does so, as if it had been cancelled; a saga
    /// past its pivot stays `dead`, and ends. See [`DiscardEffect`].
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
    ) -> Result<Discarded, DeadJobError> {
        let Acted { saga_id, effect, left_children } =
            self.act(id, DeadJobAction::Discard(mode), None, &by.into(), reason).await?;
        let effect = match effect {
            DeadJobEffect::Discarded(effect) => effect,
            DeadJobEffect::Retried => DiscardEffect::Finish,
        };
        Ok(Discarded { saga_id, effect, left_children })
    }

    async fn act(
        &self,
        id: DeadJobId,
        action: DeadJobAction,
        planned: Option<DeadJobEffect>,
        by: &Operator<'_>,
        reason: &str,
    ) -> Result<Acted, DeadJobError> {
        let mut transaction = self.core.pool.begin().await?;
        let (done, after) = act(&self.core, &mut transaction, id, action, planned, by, reason).await?;
        transaction.commit().await?;
        effects::publish(&self.core, after);
        Ok(done)
    }
}

/// What an operator does with a dead job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadJobAction {
    /// Its saga continues where it died: see [`Engine::retry_dead_job`].
    Retry,
    /// It is given up: see [`Engine::discard_dead_job`].
    Discard(DiscardMode),
}

/// What an action does to the saga of one dead job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadJobEffect {
    /// It continues where it died.
    Retried,
    /// It is given up, with this effect.
    Discarded(DiscardEffect),
}

struct Acted {
    saga_id: SagaId,
    effect: DeadJobEffect,
    left_children: LeftChildren,
}

/// A dead saga, as far as it matters for what an action does to it.
#[derive(Clone, Copy)]
struct DeadSaga<'a> {
    graph: &'a SagaGraph,
    definition: &'a str,
    graph_hash: &'a str,
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

/// Decides what an action does to a saga. Its observer has to be told, so only a process that has its code acts; if no
/// live process has it any more, a forced discard ends it as it is, and tells no observer.
///
/// # Errors
/// [`DeadJobError::NotUndone`], [`DeadJobError::UnknownGraph`] or [`DeadJobError::AlreadyResolved`] when the action
/// does not apply.
fn decide(saga: DeadSaga<'_>, action: DeadJobAction) -> Result<DeadJobEffect, DeadJobError> {
    let DeadSaga { graph, definition, graph_hash, state, step, is_known_elsewhere } = saga;
    if state.status != Status::Dead {
        return Err(moved_on(state));
    }
    if !graph.is_registered() {
        return match action {
            DeadJobAction::Discard(DiscardMode::Force) if !is_known_elsewhere => {
                Ok(DeadJobEffect::Discarded(DiscardEffect::Abandon))
            }
            DeadJobAction::Retry | DeadJobAction::Discard(DiscardMode::Safe | DiscardMode::Force) => {
                let (definition, hash) = (definition.into(), graph_hash.into());
                Err(DeadJobError::UnknownGraph { definition, hash })
            }
        };
    }
    let graph = graph.graph();
    match action {
        DeadJobAction::Retry => Ok(DeadJobEffect::Retried),
        DeadJobAction::Discard(mode) => match (discard(graph, state), mode) {
            (DiscardEffect::Abandon, DiscardMode::Safe) => {
                Err(DeadJobError::NotUndone { step: step.into(), why: not_undone(graph, state, step) })
            }
            (effect, DiscardMode::Safe | DiscardMode::Force) => Ok(DeadJobEffect::Discarded(effect)),
        },
    }
}

fn moved_on(state: &State) -> DeadJobError {
    DeadJobError::AlreadyResolved(format!("moved on: its saga is {}", state.status))
}

/// Acts on one dead job; if `planned` is given, only as it says.
async fn act(
    core: &Core,
    conn: &mut PgConnection,
    id: DeadJobId,
    action: DeadJobAction,
    planned: Option<DeadJobEffect>,
    by: &Operator<'_>,
    reason: &str,
) -> Result<(Acted, CommitEffects), DeadJobError> {
    let Some(saga_id) = store::dead_jobs::dead_job_saga(conn, id.0).await? else {
        return Err(gone(conn, id).await?);
    };
    let saga_id = SagaId(saga_id);
    // The saga is locked first, as in a cancel, so that the two can't deadlock.
    let row = store::decisions::load(conn, saga_id.0, SagaLock::Wait).await?;
    match store::dead_jobs::lock(conn, id.0).await? {
        None => return Err(gone(conn, id).await?),
        Some((_, Some(done))) => return Err(DeadJobError::AlreadyResolved(done)),
        Some((_, None)) => {}
    }
    let Some(row) = row else { return Err(DeadJobError::NotFound(id)) };
    let saga = LoadedSaga::new(core, conn, saga_id, row).await?;
    let dead = DeadSaga {
        graph: &saga.graph,
        definition: &saga.row.definition,
        graph_hash: &saga.row.graph_hash,
        state: &saga.state,
        step: &saga.row.step,
        is_known_elsewhere: is_known_elsewhere(core, conn, &saga.graph, &saga.row.graph_hash).await?,
    };
    let effect = decide(dead, action)?;
    if planned.is_some_and(|planned| planned != effect) {
        return Err(DeadJobError::NotAsPlanned);
    }
    let left_children = cancel_children(conn, &saga, effect, action, (by.actor, reason)).await?;
    let (event, outcome) = match effect {
        DeadJobEffect::Retried => (Event::Retried, HistoryOutcome::Retried),
        DeadJobEffect::Discarded(DiscardEffect::Compensate) => {
            let (actor, reason, origin) = (by.actor.into(), reason.into(), CancelOrigin::Discarded);
            (Event::Cancel { actor, reason, origin }, HistoryOutcome::Cancelled)
        }
        DeadJobEffect::Discarded(DiscardEffect::Finish | DiscardEffect::Abandon) => {
            (Event::Discarded, HistoryOutcome::Discarded)
        }
    };
    let Ok((state, _)) = transition(saga.graph(), &saga.state, &event) else {
        return Err(moved_on(&saga.state));
    };
    let (action, resolution) = match effect {
        DeadJobEffect::Retried => ("retry", DeadJobResolution::Retried),
        DeadJobEffect::Discarded(_) => ("discard", DeadJobResolution::Discarded),
    };
    store::dead_jobs::resolve(conn, saga_id.0, resolution, by.actor, reason).await?;
    let mut after = saga.audit_json_as(&state);
    match effect {
        DeadJobEffect::Retried | DeadJobEffect::Discarded(DiscardEffect::Compensate) => {}
        DeadJobEffect::Discarded(DiscardEffect::Finish) => after["ended"] = true.into(),
        DeadJobEffect::Discarded(DiscardEffect::Abandon) => {
            (after["ended"], after["abandoned"]) = (true.into(), true.into());
        }
    }
    if left_children != LeftChildren::default() {
        after["left_children"] = json!({"cancelled": left_children.cancelled, "go_on": left_children.go_on});
    }
    let request = AuditReason { by, action, reason };
    let audit = AuditEntry { request, saga_id, dead_job_id: Some(id.0), before: saga.audit_json(), after };
    store::audit::record(conn, &audit).await?;
    if !saga.is_registered() {
        // No process is left that would deliver them.
        let noted = store::inbox::unread_cancels(conn, &[saga_id.0]).await?;
        let noted: Vec<i64> = noted.iter().map(|message| message.id).collect();
        store::inbox::settle(conn, &[], &noted).await?;
    }
    let why = format!("{resolution} by {}: {reason}", by.actor);
    let mut after = saga.apply(core, conn, state, outcome, why).await?;
    after.sent_cancels |= left_children.cancelled > 0;
    Ok((Acted { saga_id, effect, left_children }, after))
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
    match effect {
        DeadJobEffect::Discarded(DiscardEffect::Finish | DiscardEffect::Abandon) => {}
        DeadJobEffect::Retried | DeadJobEffect::Discarded(DiscardEffect::Compensate) => return Ok(none),
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
