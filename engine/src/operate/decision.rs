//! A saga about which something is decided, and how a decision about it is written.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::{
    definition::{
        observer::{LateCancel, StatusChange},
        saga::Definition,
        tx::Tx,
    },
    model::{
        error::StepError,
        graph::{Graph, UNKNOWN_GRAPH},
        ids::SagaId,
        nul_character::replace_nul,
        pending_cancel::PendingCancel,
        status::Status,
        stored_value::StoredValue,
        transition::State,
        views::{FinalStatus, HistoryOutcome},
    },
    runtime::{
        core::Core,
        effects::{CommitEffects, Session},
    },
    store::{
        self,
        commits::{ChildrenRow, HistoryRow, SagaUpdate},
        decisions::LoadedSagaRow,
        saga_state::{SagaStateRow, StoredState},
    },
    support::{metrics::LATE_CANCELS, user_code::run_user_code},
};

/// The time limit of an observer that is told of a late cancel.
const OBSERVER_TIMEOUT: Duration = Duration::from_secs(5);

/// A saga that was read for a decision. Only the transaction that has locked it may write one.
pub(super) struct LoadedSaga {
    pub(super) saga_id: SagaId,
    pub(super) row: LoadedSagaRow,
    pub(super) state: State,
    pub(super) graph: SagaGraph,
}

/// The graph of a saga, with its code if this process has it.
#[derive(Clone)]
pub(super) enum SagaGraph {
    Registered(Arc<Definition>),
    /// It is stored; the code is in other processes, or in none any more.
    Stored(Arc<Graph>),
    /// It is not stored, or in a form that this engine can't read.
    Unknown,
}

impl SagaGraph {
    /// Finds the graph with this hash.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub(super) async fn find(core: &Core, conn: &mut PgConnection, hash: &str) -> Result<Self, sqlx::Error> {
        if let Some(definition) = core.definitions.with_hash(hash) {
            return Ok(Self::Registered(definition.clone()));
        }
        Ok(core.graphs.find(conn, hash).await?.map_or(Self::Unknown, Self::Stored))
    }

    pub(super) fn graph(&self) -> &Graph {
        match self {
            Self::Registered(definition) => &definition.graph,
            Self::Stored(graph) => graph,
            Self::Unknown => &UNKNOWN_GRAPH,
        }
    }

    /// Decodes the state of a saga of this graph which is at this step.
    pub(super) fn state(&self, step: &str, row: &SagaStateRow) -> Result<State, sqlx::Error> {
        let step_index = self.graph().position(step).unwrap_or(usize::MAX);
        // A cause that can't be decoded stays stored as it is, and must not keep operators from acting.
        let StoredState { state, .. } = row.decode(step_index)?;
        Ok(state)
    }

    /// Whether nothing is known of it.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// Whether this process has the code of the saga.
    pub(super) fn is_registered(&self) -> bool {
        self.definition().is_some()
    }

    fn definition(&self) -> Option<&Arc<Definition>> {
        match self {
            Self::Registered(definition) => Some(definition),
            Self::Stored(_) | Self::Unknown => None,
        }
    }
}

/// Finds the graphs of many sagas, each graph once.
pub(super) struct SagaGraphs<'a> {
    core: &'a Core,
    found: HashMap<String, SagaGraph>,
}

impl<'a> SagaGraphs<'a> {
    pub(super) fn new(core: &'a Core) -> Self {
        Self { core, found: HashMap::new() }
    }

    /// As [`SagaGraph::find`].
    pub(super) async fn find(
        &mut self,
        conn: &mut PgConnection,
        hash: &str,
    ) -> Result<SagaGraph, sqlx::Error> {
        if let Some(graph) = self.found.get(hash) {
            return Ok(graph.clone());
        }
        let graph = SagaGraph::find(self.core, conn, hash).await?;
        self.found.insert(hash.to_owned(), graph.clone());
        Ok(graph)
    }
}

impl LoadedSaga {
    pub(super) async fn new(
        core: &Core,
        conn: &mut PgConnection,
        saga_id: SagaId,
        row: LoadedSagaRow,
    ) -> Result<Self, sqlx::Error> {
        let graph = SagaGraph::find(core, conn, &row.graph_hash).await?;
        let state = graph.state(&row.step, &row.state)?;
        Ok(Self { saga_id, row, state, graph })
    }

    /// Whether this process has the code of the saga, so that it can tell the observer.
    pub(super) fn is_registered(&self) -> bool {
        self.graph.is_registered()
    }

    /// Whether the change to this state is one of which the saga's observer is told, so that only a process that has
    /// its code can make it.
    pub(super) fn tells_observer(&self, state: &State) -> bool {
        let was_dead = self.state.status == Status::Dead;
        let rests = !state.status.is_active();
        let was_completed = self.state.status == Status::Completed;
        was_dead != (state.status == Status::Dead) || (rests && !was_dead) || was_completed
    }

    pub(super) fn graph(&self) -> &Graph {
        self.graph.graph()
    }

    fn step_at(&self, state: &State) -> String {
        self.graph()
            .steps
            .get(state.step_index)
            .map_or_else(|| self.row.step.clone(), |node| node.name.clone())
    }

    /// The saga's state for an audit record.
    pub(super) fn audit_json(&self) -> Value {
        self.audit_json_as(&self.state)
    }

    /// The saga's new state for an audit record.
    pub(super) fn audit_json_as(&self, state: &State) -> Value {
        json!({
            "status": state.status.name(), "step": self.step_at(state), "direction": state.direction.name(),
        })
    }

    /// Writes the new state and its history row, and calls the observer.
    pub(super) async fn apply(
        &self,
        core: &Core,
        conn: &mut PgConnection,
        state: State,
        outcome: HistoryOutcome,
        why: String,
    ) -> Result<CommitEffects, StepError> {
        let why = replace_nul(why);
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
            details: None,
            epoch: self.row.epoch,
        };
        store::history_runs::append(conn, &[entry], core.worker).await?;
        let row = SagaUpdate {
            id: self.saga_id.0,
            epoch: self.row.epoch,
            status: state.status.name(),
            step: self.step_at(&state),
            direction: state.direction.name(),
            attempt: i32::try_from(state.attempt).unwrap_or(i32::MAX),
            lost_attempts: i32::try_from(state.lost_attempts).unwrap_or(i32::MAX),
            in_doubt: state.in_doubt,
            seq,
            held: false,
            snoozed: Some(false),
            delay_ms: 0,
            wakes_at_deadline: false,
            keeps_cancel: false,
            wait: None,
            result: None,
            children: Some(ChildrenRow {
                round: i32::try_from(state.round).ok().filter(|round| *round > 0),
                ..ChildrenRow::default()
            }),
            arms: None,
            cause: state.cause.as_ref().and_then(|cause| serde_json::to_string(cause).ok()),
            error: if outcome == HistoryOutcome::Retried { None } else { Some(why) },
        };
        let discarded = outcome == HistoryOutcome::Discarded;
        store::decisions::write_decision(conn, &row, discarded).await?;
        let ends = discarded || matches!(state.status, Status::Completed | Status::Compensated);
        if ends && self.graph().signals().next().is_some() {
            store::signals::expire(conn, &[self.saga_id.0]).await?;
        }
        let mut effects = self.notify(core, conn, &state, row.error).await?;
        if ends {
            effects.signalled.extend(self.row.parent_id.map(SagaId));
        }
        Ok(effects)
    }

    /// Tells the observer of a cancel that came too late.
    pub(super) async fn tell_late(
        &self,
        core: &Core,
        conn: &mut PgConnection,
        cancel: &PendingCancel,
    ) -> Result<CommitEffects, StepError> {
        let mut session = Session::new(core);
        let Some((definition, observer)) =
            self.graph.definition().and_then(|definition| Some((definition, definition.observer.as_ref()?)))
        else {
            return Ok(CommitEffects::default());
        };
        let late = LateCancel {
            saga_id: self.saga_id,
            input: StoredValue::from(self.row.input.0.clone()).json().clone(),
            status: self.state.status,
            actor: cancel.actor.clone(),
            reason: cancel.reason.clone(),
        };
        let mut tx = Tx::new(conn, &mut session);
        match run_user_code(OBSERVER_TIMEOUT, observer.cancelled_too_late(&mut tx, &[late])).await {
            Ok(told) => told?,
            Err(failure) => {
                let name = &definition.graph.name;
                return Err(StepError::Other(format!("the observer of `{name}` {failure}")));
            }
        }
        metrics::counter!(LATE_CANCELS, "definition" => definition.graph.name.clone()).increment(1);
        Ok(session.effects)
    }

    async fn notify(
        &self,
        core: &Core,
        conn: &mut PgConnection,
        state: &State,
        error: Option<String>,
    ) -> Result<CommitEffects, StepError> {
        let mut session = Session::new(core);
        let rests = !state.status.is_active();
        if self.tells_observer(state)
            && let Some(observer) =
                self.graph.definition().and_then(|definition| definition.observer.as_ref())
        {
            let change = StatusChange {
                saga_id: self.saga_id,
                input: StoredValue::from(self.row.input.0.clone()).json().clone(),
                status: state.status,
                cause: state.cause.clone(),
                result: None,
                error,
            };
            let mut tx = Tx::new(conn, &mut session);
            observer.status_changed(&mut tx, &[change]).await?;
        }
        let mut effects = session.effects;
        if rests {
            effects.ended.push((
                self.saga_id,
                FinalStatus { status: state.status, cause: state.cause.clone(), result: None },
            ));
        } else {
            effects.due.entry(self.row.queue.clone()).or_default().push(self.saga_id);
        }
        Ok(effects)
    }
}
