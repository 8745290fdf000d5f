//! Which sagas are in flight, and whether this process could go on with them: what to know before a deploy.

use std::collections::{BTreeMap, HashMap};

use serde_json::value::RawValue;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    definition::saga::Definition,
    engine::Engine,
    model::{
        ids::SagaId,
        kinds::{StepKind, UndoKind},
        moving,
        status::{Direction, Status},
        stored_value::StoredValues,
        transition::{State, can_compensate},
    },
    operate::decision::{SagaGraph, SagaGraphs},
    runtime::core::Core,
    store::{
        self,
        claims::OutputRow,
        in_flight::{IdList, InFlightRow},
    },
};

/// How many sagas are read at once, with their payloads.
pub(super) const PAGE: usize = 100;

/// The sagas in flight of one graph that stand at one step: unfinished ones, and dead ones that nobody has given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The name of their definition.
    pub definition: String,
    /// The hash of the graph with which they were started.
    pub graph_hash: String,
    /// The step at which they stand.
    pub step: String,
    /// The side of that step.
    pub direction: Direction,
    /// Their status.
    pub status: Status,
    /// What becomes of them in processes like this one.
    pub prospect: Prospect,
    /// How many they are.
    pub sagas: u64,
    /// The first of them, and why they wait or can't be read; `None` if they go on.
    pub first: Option<(SagaId, String)>,
}

/// What becomes of sagas in flight in processes like this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Prospect {
    /// They go on: their graph is registered, and what they stored can be read.
    GoesOn,
    /// Their graph is registered, but what they stored can't be read: they would become dead jobs.
    Unreadable,
    /// Their graph is not registered. They would wait for a process that knows it, unless they are moved to the newest
    /// graph ([`Engine::plan_move`]).
    CanBeMoved,
    /// Their graph is not registered, and they can't be moved: they would wait for a process that knows it.
    Unknown,
}

impl Prospect {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether a process like this one could not go on with them, now or after a move.
    pub fn is_at_risk(self) -> bool {
        match self {
            Self::GoesOn | Self::CanBeMoved => false,
            Self::Unreadable | Self::Unknown => true,
        }
    }
}

/// What sagas have in common that are counted together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    definition: String,
    graph_hash: String,
    step: String,
    direction: &'static str,
    status: &'static str,
    prospect: Prospect,
}

impl Engine {
    /// Counts the sagas in flight by definition, graph and step, and says of each kind whether a process like this one
    /// would go on with it: whether it knows the graph, and whether its types can read the stored inputs and outputs
    /// that the next step needs, and the undos that may still be run. Children that have completed are among them as
    /// long as an ancestor may take them back.
    ///
    /// It reads page by page in one transaction, and changes nothing.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn check_in_flight(&self) -> Result<Vec<InFlight>, sqlx::Error> {
        let mut kinds = BTreeMap::new();
        let mut transaction = self.pool().begin().await?;
        store::in_flight::open_unfinished(&mut transaction).await?;
        loop {
            let ids = store::in_flight::next_ids(&mut transaction, IdList::Unfinished, PAGE).await?;
            if ids.is_empty() {
                break;
            }
            count_page(&self.core, &mut transaction, &mut kinds, &ids).await?;
            store::in_flight::open_undoable(&mut transaction, &ids).await?;
            loop {
                let ids = store::in_flight::next_ids(&mut transaction, IdList::Undoable, PAGE).await?;
                if ids.is_empty() {
                    break;
                }
                count_page(&self.core, &mut transaction, &mut kinds, &ids).await?;
            }
            store::in_flight::close_ids(&mut transaction, IdList::Undoable).await?;
        }
        transaction.rollback().await?;
        Ok(kinds.into_values().collect())
    }
}

async fn count_page(
    core: &Core,
    conn: &mut PgConnection,
    kinds: &mut BTreeMap<Kind, InFlight>,
    ids: &[Uuid],
) -> Result<(), sqlx::Error> {
    for saga in read_page(core, conn, ids).await? {
        count(core, kinds, saga);
    }
    Ok(())
}

/// A saga in flight, with its graph, its state and what it has stored.
pub(super) struct ReadSaga {
    pub(super) row: InFlightRow,
    pub(super) graph: SagaGraph,
    pub(super) state: State,
    outputs: Vec<OutputRow>,
    /// The name and the message of every signal that it may still take.
    signals: Vec<(String, Json<Box<RawValue>>)>,
}

/// Reads those of these sagas that are in flight, the oldest first.
pub(super) async fn read_page(
    core: &Core,
    conn: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<ReadSaga>, sqlx::Error> {
    let mut rows = store::in_flight::sagas(conn, ids).await?;
    rows.sort_by_key(|row| row.id);
    let mut outputs: HashMap<Uuid, Vec<OutputRow>> = HashMap::new();
    for output in store::claims::outputs(conn, ids).await? {
        outputs.entry(output.saga_id).or_default().push(output);
    }
    let mut signals: HashMap<Uuid, Vec<_>> = HashMap::new();
    for (saga_id, name, message) in store::signals::open(conn, ids).await? {
        signals.entry(saga_id).or_default().push((name, message));
    }
    let (mut graphs, mut sagas) = (SagaGraphs::new(core), Vec::with_capacity(rows.len()));
    for row in rows {
        let graph = graphs.find(conn, &row.graph_hash).await?;
        let state = graph.state(&row.step, &row.state)?;
        // A call whose worker vanished is in doubt, but only the next claim notes it.
        let node = graph.graph().steps.get(state.step_index);
        let in_doubt = state.in_doubt || row.lost && node.is_some_and(|node| node.kind == StepKind::Call);
        let outputs = outputs.remove(&row.id).unwrap_or_default();
        let signals = signals.remove(&row.id).unwrap_or_default();
        sagas.push(ReadSaga { row, graph, state: State { in_doubt, ..state }, outputs, signals });
    }
    Ok(sagas)
}

impl ReadSaga {
    /// Says why this definition can't go on with the saga because of what it has stored.
    ///
    /// # Errors
    /// What can't be read.
    pub(super) fn read_by(&self, definition: &Definition) -> Result<(), String> {
        let values = values(definition, &self.row.input, &self.outputs);
        read_all(definition, &self.row.step, &self.state, &values)?;
        self.signals.iter().try_for_each(|(name, message)| {
            let Some(awaited) = definition.awaited_signal(name) else { return Ok(()) };
            let read = awaited.received(&message.0.clone().into()).map(drop);
            read.map_err(|error| format!("a signal `{name}` for it can't be read: {error}"))
        })
    }

    /// Says why the saga can't be moved to the graph of this definition now.
    ///
    /// # Errors
    /// The reason.
    pub(super) fn moves_to(&self, newest: &Definition) -> Result<(), String> {
        if self.row.leased { Err("a worker holds it".into()) } else { self.fits(newest) }
    }

    /// Says why the saga does not fit the graph of this definition, whoever holds it.
    ///
    /// # Errors
    /// The reason.
    fn fits(&self, newest: &Definition) -> Result<(), String> {
        moving::check(self.graph.graph(), &newest.graph, &self.state)?;
        self.read_by(newest)
    }
}

fn count(core: &Core, kinds: &mut BTreeMap<Kind, InFlight>, saga: ReadSaga) {
    let (prospect, why) = match core.definitions.with_hash(&saga.row.graph_hash) {
        Some(definition) => match saga.read_by(definition) {
            Ok(()) => (Prospect::GoesOn, None),
            Err(why) => (Prospect::Unreadable, Some(why)),
        },
        None => match core.definitions.newest(&saga.row.definition) {
            None => (Prospect::Unknown, Some("no saga of that name is registered".into())),
            Some(newest) => match saga.fits(newest) {
                Ok(()) => (Prospect::CanBeMoved, None),
                Err(why) => (Prospect::Unknown, Some(why)),
            },
        },
    };
    let ReadSaga { row, state, .. } = saga;
    let kind = Kind {
        definition: row.definition.clone(),
        graph_hash: row.graph_hash.clone(),
        step: row.step.clone(),
        direction: state.direction.name(),
        status: state.status.name(),
        prospect,
    };
    let counted = kinds.entry(kind).or_insert_with(|| InFlight {
        definition: row.definition,
        graph_hash: row.graph_hash,
        step: row.step,
        direction: state.direction,
        status: state.status,
        prospect,
        sagas: 0,
        first: why.map(|why| (SagaId(row.id), why)),
    });
    counted.sagas += 1;
}

/// The stored values of a saga, in the order of a graph.
fn values(definition: &Definition, input: &Json<Box<RawValue>>, outputs: &[OutputRow]) -> StoredValues {
    let mut values = StoredValues::new(input.0.clone().into());
    for output in outputs {
        if let Some(step_index) = definition.graph.position(&output.step) {
            let stored = output.output.as_ref().map(|json| json.0.clone().into());
            definition.set_output(&mut values, step_index, stored.as_ref());
        }
    }
    values
}

/// Reads the saga's input and every output that it has stored, what its next step reads of them, and what the undos
/// read that may still be run.
fn read_all(definition: &Definition, step: &str, state: &State, values: &StoredValues) -> Result<(), String> {
    definition.read_input(values)?;
    definition.actions.iter().try_for_each(|action| action.read_output(values))?;
    let Some(next) = definition.actions.get(state.step_index) else {
        return Err(format!("its graph has no step `{step}`"));
    };
    next.read(state.direction, values)?;
    let goes_back = state.direction == Direction::Undo || can_compensate(&definition.graph, state);
    let steps = &definition.graph.steps;
    // A child that has completed is undone from behind its last step.
    let beyond = if state.status == Status::Completed { steps.len() } else { state.step_index };
    let before = definition.graph.path(&state.arms, beyond);
    let mut undone = before.filter(|at| goes_back && steps[*at].undo == UndoKind::HasUndo);
    undone.try_for_each(|at| definition.actions[at].read(Direction::Undo, values))
}
