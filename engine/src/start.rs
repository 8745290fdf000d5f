//! Starts sagas: in the caller's transaction, in a step's, or batched with everybody else's.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    engine::Inner,
    erased::{Answer, Visit},
    error::{StartError, StepError},
    ids::SagaId,
    job::{Job, Permit},
    outcome::Outcome,
    saga::Definition,
    status::{Direction, Status},
    store,
    store::moves::HistoryRow,
    transition::{Event, State, transition},
    tx::Tx,
    view::{FinalStatus, HistoryOutcome},
    watch::StatusChange,
};

/// Callers wait for entry steps, and other starts behind them: none takes longer, whatever its policy says.
const ENTRY_LIMIT: Duration = Duration::from_secs(5);

/// A saga prepared to be started.
#[derive(Clone, Debug)]
pub struct NewSaga {
    id: SagaId,
    definition: Cow<'static, str>,
    input: Result<Arc<RawValue>, String>,
    typed: bool,
    business_key: Option<String>,
    trace: Option<String>,
}

impl NewSaga {
    pub(crate) fn typed<I: Serialize>(definition: &'static str, input: &I) -> Self {
        let input = serde_json::value::to_raw_value(input).map(Arc::from).map_err(|error| error.to_string());
        Self::new(Cow::Borrowed(definition), input, true)
    }

    /// Prepares a saga of a definition known by name only; the input is checked against its type at the start.
    pub fn untyped(definition: &str, input: &serde_json::Value) -> Self {
        let input = serde_json::value::to_raw_value(input).map(Arc::from).map_err(|error| error.to_string());
        Self::new(Cow::Owned(definition.into()), input, false)
    }

    fn new(definition: Cow<'static, str>, input: Result<Arc<RawValue>, String>, typed: bool) -> Self {
        Self { id: SagaId::generate(), definition, input, typed, business_key: None, trace: None }
    }

    /// Sets the id, for a caller that stores it elsewhere too.
    pub fn id(mut self, id: SagaId) -> Self {
        self.id = id;
        self
    }

    /// Makes the start idempotent: a second start of the same definition with this key finds the first saga.
    pub fn business_key(mut self, key: impl Into<String>) -> Self {
        self.business_key = Some(key.into());
        self
    }

    /// Keeps a W3C `traceparent`, so that the steps join the caller's trace.
    pub fn trace(mut self, traceparent: Option<String>) -> Self {
        self.trace = traceparent;
        self
    }

    /// As [`NewSaga::trace`], unless one is kept already.
    pub(crate) fn or_trace(self, current: impl FnOnce() -> Option<String>) -> Self {
        let trace = self.trace.or_else(current);
        Self { trace, ..self }
    }

    /// The id it will have, unless its business key was used before.
    pub fn saga_id(&self) -> SagaId {
        self.id
    }
}

/// A saga that was started, now or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The saga.
    pub saga_id: SagaId,
    /// Whether its business key (or id) had been used before: this is that saga, and nothing was started.
    pub existing: bool,
}

/// A start whose definition is known and whose input is written.
pub(crate) struct Prepared {
    pub(crate) id: SagaId,
    pub(crate) definition: Arc<Definition>,
    pub(crate) input: Arc<RawValue>,
    pub(crate) business_key: Option<String>,
    pub(crate) trace: Option<String>,
    /// The state right after the start: past the entry step, if there is one.
    pub(crate) state: State,
    /// Room in a feed of this process: the saga is claimed in the commit that starts it.
    pub(crate) permit: Option<Permit>,
}

impl Prepared {
    pub(crate) fn has_entry(&self) -> bool {
        self.definition.graph.steps[0].entry
    }

    pub(crate) fn step_name(&self) -> &str {
        &self.definition.graph.steps[self.state.at].name
    }

    pub(crate) fn deadline_ms(&self) -> Option<i64> {
        self.definition.graph.deadline.map(|deadline| i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Inner {
    pub(crate) fn prepare(&self, new: &NewSaga) -> Result<Prepared, StartError> {
        let definition = self
            .definitions
            .get(new.definition.as_ref())
            .ok_or_else(|| StartError::UnknownDefinition(new.definition.to_string()))?;
        let input = new.input.clone().map_err(StartError::BadInput)?;
        if !new.typed {
            definition.check_input(&input).map_err(StartError::BadInput)?;
        }
        // PostgreSQL keeps no NUL in text or jsonb; better a clear no here than a failed batch.
        if crate::text::json_holds_nul(input.get())
            || new.business_key.as_deref().is_some_and(|key| key.contains('\0'))
        {
            return Err(StartError::BadInput("the NUL character can't be stored".into()));
        }
        let mut state = State::initial();
        if definition.graph.steps[0].entry
            && let Ok((entered, _)) = transition(&definition.graph, &state, &Event::Done)
        {
            state = entered;
        }
        Ok(Prepared {
            id: new.id,
            definition: definition.clone(),
            input,
            business_key: new.business_key.clone(),
            trace: new.trace.clone(),
            state,
            permit: None,
        })
    }
}

/// Starts sagas in a transaction that this engine commits: those that a feed of this process has room for are claimed
/// in the same commit and wait in [`Tx::after`].
pub(crate) async fn start_in_tx(
    tx: &mut Tx<'_>,
    sagas: Vec<NewSaga>,
) -> Result<Vec<Result<Started, StartError>>, StepError> {
    start_with(tx, sagas, Claiming::Here).await
}

/// Whether the process may claim what it starts in the same commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claiming {
    Here,
    /// The transaction is the caller's: nobody tells us when it commits.
    Anywhere,
}

pub(crate) async fn start_with(
    tx: &mut Tx<'_>,
    sagas: Vec<NewSaga>,
    claiming: Claiming,
) -> Result<Vec<Result<Started, StartError>>, StepError> {
    let engine = tx.engine;
    let mut answers: Vec<Option<Result<Started, StartError>>> = vec![None; sagas.len()];
    let mut prepared: Vec<(usize, Prepared)> = Vec::with_capacity(sagas.len());
    for (place, new) in sagas.iter().enumerate() {
        match engine.prepare(new) {
            Ok(mut start) => {
                if claiming == Claiming::Here && start.state.status == Status::Running {
                    start.permit = engine.feeds.room(&start.definition.graph.queue);
                }
                prepared.push((place, start));
            }
            Err(error) => answers[place] = Some(Err(error)),
        }
    }
    // One order for everybody, so that two batches with the same business keys wait instead of deadlocking.
    prepared.sort_by(|(_, a), (_, b)| {
        (&a.definition.graph.name, &a.business_key, a.id).cmp(&(
            &b.definition.graph.name,
            &b.business_key,
            b.id,
        ))
    });

    let new_ids = if prepared.is_empty() { Vec::new() } else { insert(tx, &prepared).await? };
    tx.course.backend = new_ids.first().map(|(_, backend)| *backend);
    let mut new_ids: HashSet<Uuid> = new_ids.into_iter().map(|(id, _)| id).collect();
    let (fresh, known): (Vec<_>, Vec<_>) =
        prepared.into_iter().partition(|(_, start)| new_ids.remove(&start.id.0));

    if !known.is_empty() {
        let starts: Vec<&Prepared> = known.iter().map(|(_, start)| start).collect();
        let existing = store::starts::existing(tx, &starts).await?;
        for ((place, _), found) in known.iter().zip(existing) {
            answers[*place] = Some(match found {
                Some(id) => Ok(Started { saga_id: SagaId(id), existing: true }),
                // It was there a moment ago and its start was rolled back, or it was pruned: the caller may try again.
                None => {
                    Err(StartError::Unavailable("another start with this key was just taken back".into()))
                }
            });
        }
    }
    let refused = enter(tx, fresh, &mut answers).await?;
    // A second start of a batch found the first one, and that was refused: it is answered alike.
    for (place, _) in &known {
        if let Some(Ok(started)) = &answers[*place]
            && let Some(error) = refused.get(&started.saga_id.0)
        {
            answers[*place] = Some(Err(error.clone()));
        }
    }
    Ok(answers
        .into_iter()
        .map(|answer| answer.unwrap_or_else(|| Err(StartError::Unavailable("no answer".into()))))
        .collect())
}

async fn insert(tx: &mut Tx<'_>, prepared: &[(usize, Prepared)]) -> Result<Vec<(Uuid, i32)>, sqlx::Error> {
    let starts: Vec<&Prepared> = prepared.iter().map(|(_, start)| start).collect();
    let (worker, lease_ms) = (tx.engine.worker, tx.engine.lease_ms());
    store::starts::insert(tx, &starts, worker, lease_ms).await
}

/// Runs the entry steps of the sagas just inserted, takes back those refused, which it gives with the reason, and makes
/// jobs of those claimed.
async fn enter(
    tx: &mut Tx<'_>,
    fresh: Vec<(usize, Prepared)>,
    answers: &mut [Option<Result<Started, StartError>>],
) -> Result<HashMap<Uuid, StartError>, StepError> {
    let engine = tx.engine;
    let mut by_definition: BTreeMap<String, Vec<(usize, Prepared)>> = BTreeMap::new();
    for start in fresh {
        by_definition.entry(start.1.definition.graph.name.clone()).or_default().push(start);
    }
    let (mut refused, mut history, mut ended) = (HashMap::new(), Vec::new(), Vec::<Prepared>::new());
    let mut due = BTreeMap::<String, Vec<SagaId>>::new();
    for (definition_name, starts) in by_definition {
        let outputs = run_entries(tx, &starts).await?;
        let mut begun = 0_u64;
        for ((place, mut start), output) in starts.into_iter().zip(outputs) {
            let output = match output {
                Ok(output) => output,
                Err(error) => {
                    refused.insert(start.id.0, error.clone());
                    answers[place] = Some(Err(error));
                    continue;
                }
            };
            begun += 1;
            answers[place] = Some(Ok(Started { saga_id: start.id, existing: false }));
            let mut values = vec![Some(start.input.clone())];
            if let Some(entered) = output {
                history.push(entered.row);
                values.push(entered.output);
            }
            match start.permit.take() {
                Some(permit) => tx.after.jobs.push(job(engine, start, values, permit)),
                None if start.state.status == Status::Running => {
                    due.entry(start.definition.graph.queue.clone()).or_default().push(start.id);
                }
                None => ended.push(start),
            }
        }
        tx.after.begun.push((definition_name, begun));
    }
    if !refused.is_empty() {
        let ids: Vec<Uuid> = refused.keys().copied().collect();
        store::starts::delete(tx, &ids).await?;
    }
    if !history.is_empty() {
        let worker = engine.worker;
        store::moves::append_history(tx, &history, worker).await?;
    }
    if !due.is_empty() {
        let queues: Vec<String> = due.keys().cloned().collect();
        store::starts::notify_due(tx, &queues).await?;
        tx.after.due.extend(due);
    }
    end(tx, ended).await?;
    Ok(refused)
}

/// Tells observers and waiters of sagas whose entry step was their only one.
async fn end(tx: &mut Tx<'_>, ended: Vec<Prepared>) -> Result<(), StepError> {
    for start in ended {
        let change = StatusChange {
            saga_id: start.id,
            input: start.input,
            status: Status::Completed,
            cause: None,
            error: None,
        };
        if let Some(watch) = &start.definition.watch {
            match crate::guard::guarded(ENTRY_LIMIT, watch.status_changed(tx, &[change])).await {
                Ok(told) => told?,
                Err(broken) => {
                    tx.course.midway = true;
                    let name = &start.definition.graph.name;
                    return Err(StepError::Other(format!("the observer of `{name}` {broken}")));
                }
            }
        }
        tx.after.ended.push((start.id, FinalStatus { status: Status::Completed, cause: None }));
    }
    Ok(())
}

struct Entered {
    row: HistoryRow,
    output: Option<Arc<RawValue>>,
}

/// Runs the entry step of one definition's starts; `Ok(None)` for a definition without one.
async fn run_entries(
    tx: &mut Tx<'_>,
    starts: &[(usize, Prepared)],
) -> Result<Vec<Result<Option<Entered>, StartError>>, StepError> {
    let Some((_, first)) = starts.first() else { return Ok(Vec::new()) };
    if !first.has_entry() {
        return Ok(starts.iter().map(|_| Ok(None)).collect());
    }
    let definition = first.definition.clone();
    let node = &definition.graph.steps[0];
    let visits: Vec<Visit> = starts
        .iter()
        .map(|(_, start)| Visit {
            saga_id: start.id,
            step: node.name.clone(),
            attempt: 1,
            values: vec![Some(start.input.clone())],
            cause: None,
            trace: start.trace.as_deref().map(Into::into),
            salt: None,
        })
        .collect();
    let began = Instant::now();
    let run = definition.actions[0].in_transaction(Direction::Action, tx, &visits);
    let answers = match crate::guard::guarded(node.retry.timeout.min(ENTRY_LIMIT), run).await {
        Ok(answers) => answers?,
        Err(broken) => {
            tx.course.midway = true;
            return Err(StepError::Other(format!("entry step `{}` {broken}", node.name)));
        }
    };
    let took = began.elapsed();
    Ok(visits
        .iter()
        .zip(answers)
        .map(|(visit, answer)| match answer {
            Answer::Outcome(Outcome::Done(output)) => Ok(Some(Entered {
                row: HistoryRow {
                    saga_id: visit.saga_id.0,
                    seq: 1,
                    step: node.name.clone(),
                    direction: Direction::Action.name(),
                    outcome: HistoryOutcome::Done,
                    attempt: 1,
                    started: began,
                    duration: took,
                    output: output.clone(),
                    error: Vec::new(),
                    epoch: 0,
                },
                output,
            })),
            Answer::Outcome(Outcome::Fail(failure)) => Err(StartError::Refused(failure)),
            Answer::Outcome(Outcome::Retry(retry)) => Err(StartError::Unavailable(retry.error.join(": "))),
            Answer::Unreadable(reason) | Answer::Unwritable(reason) => Err(StartError::BadInput(reason)),
        })
        .collect())
}

fn job(engine: &Inner, start: Prepared, values: Vec<Option<Arc<RawValue>>>, permit: Permit) -> Job {
    let mut state = start.state;
    state.attempt = 1;
    let entered = i32::from(start.definition.graph.steps[0].entry);
    Job {
        saga_id: start.id,
        definition_name: start.definition.graph.name.as_str().into(),
        queue: start.definition.graph.queue.as_str().into(),
        step: start.definition.graph.steps[state.at].name.as_str().into(),
        state,
        epoch: 1,
        history_seq: entered,
        values,
        trace: start.trace.map(Into::into),
        interrupted: false,
        unreadable: None,
        solo: false,
        hold: engine.holds.hold(start.id, 1),
        permit,
        definition: Some(start.definition),
    }
}
