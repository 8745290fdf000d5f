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
    definition::{
        erased::{Invocation, StepAnswer},
        observer::StatusChange,
        saga::Definition,
        tx::Tx,
    },
    engine::Core,
    model::{
        error::{StartError, StepError},
        ids::SagaId,
        outcome::Outcome,
        status::{Direction, Status},
        transition::{Event, State, transition},
        views::{FinalStatus, HistoryOutcome},
    },
    runtime::job::{Job, JobSlots},
    store,
    store::commits::HistoryRow,
};

/// Callers wait for entry steps, and other starts behind them: none takes longer, whatever its policy says.
const ENTRY_TIMEOUT: Duration = Duration::from_secs(5);

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
    pub(crate) fn trace_or(self, current: impl FnOnce() -> Option<String>) -> Self {
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
pub(crate) struct ValidatedStart {
    pub(crate) id: SagaId,
    pub(crate) definition: Arc<Definition>,
    pub(crate) input: Arc<RawValue>,
    pub(crate) business_key: Option<String>,
    pub(crate) trace: Option<String>,
    /// The state right after the start: past the entry step, if there is one.
    pub(crate) state: State,
    /// Room in a feed of this process: the saga is claimed in the commit that starts it.
    pub(crate) slots: Option<JobSlots>,
}

impl ValidatedStart {
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

impl Core {
    pub(crate) fn validate(&self, new: &NewSaga) -> Result<ValidatedStart, StartError> {
        let definition = self
            .definitions
            .get(new.definition.as_ref())
            .ok_or_else(|| StartError::UnknownDefinition(new.definition.to_string()))?;
        let input = new.input.clone().map_err(StartError::BadInput)?;
        if !new.typed {
            definition.check_input(&input).map_err(StartError::BadInput)?;
        }
        // PostgreSQL keeps no NUL in text or jsonb; better a clear no here than a failed batch.
        if crate::model::nul::json_holds_nul(input.get())
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
        Ok(ValidatedStart {
            id: new.id,
            definition: definition.clone(),
            input,
            business_key: new.business_key.clone(),
            trace: new.trace.clone(),
            state,
            slots: None,
        })
    }
}

/// Starts sagas in a transaction that this engine commits: those that a feed of this process has room for are claimed
/// in the same commit and wait in [`Tx::after`].
pub(crate) async fn start_and_claim(
    tx: &mut Tx<'_>,
    sagas: Vec<NewSaga>,
) -> Result<Vec<Result<Started, StartError>>, StepError> {
    start_with(tx, sagas, ClaimOnStart::Yes).await
}

/// Whether the process may claim what it starts in the same commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimOnStart {
    Yes,
    /// The transaction is the caller's: nobody tells us when it commits.
    No,
}

pub(crate) async fn start_with(
    tx: &mut Tx<'_>,
    sagas: Vec<NewSaga>,
    claiming: ClaimOnStart,
) -> Result<Vec<Result<Started, StartError>>, StepError> {
    let core = tx.core;
    let mut answers: Vec<Option<Result<Started, StartError>>> = vec![None; sagas.len()];
    let mut prepared: Vec<(usize, ValidatedStart)> = Vec::with_capacity(sagas.len());
    for (place, new) in sagas.iter().enumerate() {
        match core.validate(new) {
            Ok(mut start) => {
                if claiming == ClaimOnStart::Yes && start.state.status == Status::Running {
                    start.slots = core.feeds.slot(&start.definition.graph.queue);
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
        let starts: Vec<&ValidatedStart> = known.iter().map(|(_, start)| start).collect();
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
    let refused = run_entry_steps(tx, fresh, &mut answers).await?;
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

async fn insert(
    tx: &mut Tx<'_>,
    prepared: &[(usize, ValidatedStart)],
) -> Result<Vec<(Uuid, i32)>, sqlx::Error> {
    let starts: Vec<&ValidatedStart> = prepared.iter().map(|(_, start)| start).collect();
    let (worker, lease_ms) = (tx.core.worker, tx.core.lease_ms());
    store::starts::insert(tx, &starts, worker, lease_ms).await
}

/// Runs the entry steps of the sagas just inserted, takes back those refused, which it gives with the reason, and makes
/// jobs of those claimed.
async fn run_entry_steps(
    tx: &mut Tx<'_>,
    fresh: Vec<(usize, ValidatedStart)>,
    answers: &mut [Option<Result<Started, StartError>>],
) -> Result<HashMap<Uuid, StartError>, StepError> {
    let core = tx.core;
    let mut by_definition: BTreeMap<String, Vec<(usize, ValidatedStart)>> = BTreeMap::new();
    for start in fresh {
        by_definition.entry(start.1.definition.graph.name.clone()).or_default().push(start);
    }
    let (mut refused, mut history, mut ended) = (HashMap::new(), Vec::new(), Vec::<ValidatedStart>::new());
    let mut due = BTreeMap::<String, Vec<SagaId>>::new();
    for (definition_name, starts) in by_definition {
        let outputs = run_entry_step(tx, &starts).await?;
        let mut started = 0_u64;
        for ((place, mut start), output) in starts.into_iter().zip(outputs) {
            let output = match output {
                Ok(output) => output,
                Err(error) => {
                    refused.insert(start.id.0, error.clone());
                    answers[place] = Some(Err(error));
                    continue;
                }
            };
            started += 1;
            answers[place] = Some(Ok(Started { saga_id: start.id, existing: false }));
            let mut values = vec![Some(start.input.clone())];
            if let Some(entered) = output {
                history.push(entered.row);
                values.push(entered.output);
            }
            match start.slots.take() {
                Some(slots) => tx.after.jobs.push(job(core, start, values, slots)),
                None if start.state.status == Status::Running => {
                    due.entry(start.definition.graph.queue.clone()).or_default().push(start.id);
                }
                None => ended.push(start),
            }
        }
        tx.after.started.push((definition_name, started));
    }
    if !refused.is_empty() {
        let ids: Vec<Uuid> = refused.keys().copied().collect();
        store::starts::delete(tx, &ids).await?;
    }
    if !history.is_empty() {
        let worker = core.worker;
        store::commits::append_history(tx, &history, worker).await?;
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
async fn end(tx: &mut Tx<'_>, ended: Vec<ValidatedStart>) -> Result<(), StepError> {
    for start in ended {
        let change = StatusChange {
            saga_id: start.id,
            input: start.input,
            status: Status::Completed,
            cause: None,
            error: None,
        };
        if let Some(observer) = &start.definition.observer {
            match crate::support::user_code::run_user_code(
                ENTRY_TIMEOUT,
                observer.status_changed(tx, &[change]),
            )
            .await
            {
                Ok(notified) => notified?,
                Err(broken) => {
                    tx.course.cancelled_mid_statement = true;
                    let name = &start.definition.graph.name;
                    return Err(StepError::Other(format!("the observer of `{name}` {broken}")));
                }
            }
        }
        tx.after.ended.push((start.id, FinalStatus { status: Status::Completed, cause: None }));
    }
    Ok(())
}

struct EntryResult {
    row: HistoryRow,
    output: Option<Arc<RawValue>>,
}

/// Runs the entry step of one definition's starts; `Ok(None)` for a definition without one.
async fn run_entry_step(
    tx: &mut Tx<'_>,
    starts: &[(usize, ValidatedStart)],
) -> Result<Vec<Result<Option<EntryResult>, StartError>>, StepError> {
    let Some((_, first)) = starts.first() else { return Ok(Vec::new()) };
    if !first.has_entry() {
        return Ok(starts.iter().map(|_| Ok(None)).collect());
    }
    let definition = first.definition.clone();
    let node = &definition.graph.steps[0];
    let invocations: Vec<Invocation> = starts
        .iter()
        .map(|(_, start)| Invocation {
            saga_id: start.id,
            step: node.name.clone(),
            attempt: 1,
            values: vec![Some(start.input.clone())],
            cause: None,
            trace: start.trace.as_deref().map(Into::into),
            key_salt: None,
        })
        .collect();
    let began = Instant::now();
    let run = definition.actions[0].in_transaction(Direction::Action, tx, &invocations);
    let answers =
        match crate::support::user_code::run_user_code(node.retry.timeout.min(ENTRY_TIMEOUT), run).await {
            Ok(answers) => answers?,
            Err(broken) => {
                tx.course.cancelled_mid_statement = true;
                return Err(StepError::Other(format!("entry step `{}` {broken}", node.name)));
            }
        };
    let took = began.elapsed();
    Ok(invocations
        .iter()
        .zip(answers)
        .map(|(invocation, answer)| match answer {
            StepAnswer::Outcome(Outcome::Done(output)) => Ok(Some(EntryResult {
                row: HistoryRow {
                    saga_id: invocation.saga_id.0,
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
            StepAnswer::Outcome(Outcome::Fail(failure)) => Err(StartError::Refused(failure)),
            StepAnswer::Outcome(Outcome::Retry(retry)) => {
                Err(StartError::Unavailable(retry.error.join(": ")))
            }
            StepAnswer::InputUnreadable(reason) | StepAnswer::OutputUnstorable(reason) => {
                Err(StartError::BadInput(reason))
            }
        })
        .collect())
}

fn job(core: &Core, start: ValidatedStart, values: Vec<Option<Arc<RawValue>>>, slots: JobSlots) -> Job {
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
        isolated: false,
        lease: core.leases.track(start.id, 1),
        slots,
        definition: Some(start.definition),
    }
}
