//! Runs the entry steps of sagas in the commit that starts them.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    definition::{
        invocation::Invocation, new_saga::Started, observer::StatusChange, step_answer::StepAnswer, tx::Tx,
    },
    model::{
        cause::Cause,
        error::{StartError, StepError},
        outcome::{Counts, Failure, Outcome},
        status::{Direction, Status, StepSide},
        storable::{storable_details, storable_failure},
        stored_value::{StoredValue, StoredValues},
        views::{FinalStatus, HistoryOutcome},
    },
    runtime::{
        core::Core,
        effects::Session,
        job::{Ancestry, Job},
        slots::JobSlots,
        start::validate::ValidatedStart,
        step_run::{Rest, StepRun, StepRunError, run_step},
    },
    store::{self, children::RefusedChild, commits::HistoryRow},
    support::user_code::run_user_code,
};

/// The time limit of an entry step, whatever its policy says, because its caller and the starts of the next batch wait
/// for it.
const ENTRY_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the entry steps of the sagas that were just inserted, and turns the claimed ones into jobs. Deletes the refused
/// ones again, and returns the reason for each.
pub(super) async fn run_entry_steps(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    inserted: Vec<(usize, ValidatedStart)>,
    answers: &mut [Option<Result<Started, StartError>>],
) -> Result<HashMap<Uuid, StartError>, StepError> {
    let core = session.core;
    let mut by_definition: BTreeMap<String, Vec<(usize, ValidatedStart)>> = BTreeMap::new();
    for start in inserted {
        by_definition.entry(start.1.definition.graph.name.clone()).or_default().push(start);
    }
    let (mut refused, mut history, mut refused_children) = (HashMap::new(), Vec::new(), Vec::new());
    let mut ended: Vec<(ValidatedStart, StoredValues)> = Vec::new();
    for (definition_name, starts) in by_definition {
        let outputs = run_entry_step(session, conn, &starts).await?;
        let mut started = 0_u64;
        for ((index, mut start), output) in starts.into_iter().zip(outputs) {
            let output = match output {
                Ok(output) => output,
                Err(StartError::Refused(failure)) if start.child_of.is_some() => {
                    answers[index] = Some(Ok(Started::new(start.id)));
                    let refusal = refusal(&start, &failure);
                    history.push(refusal.row);
                    refused_children.push(refusal.child);
                    continue;
                }
                Err(error) => {
                    refused.insert(start.id.0, error.clone());
                    answers[index] = Some(Err(error));
                    continue;
                }
            };
            started += 1;
            answers[index] = Some(Ok(Started::new(start.id)));
            let mut values = StoredValues::new(start.input.clone());
            if let Some(entry) = output {
                history.push(entry.row);
                values.set(1, entry.output);
            }
            match start.slots.take() {
                Some(slots) => session.effects.jobs.push(job(core, start, values, slots)),
                None if start.sleeps => {}
                None if start.state.status == Status::Running => {
                    let queue = start.definition.graph.queue.clone();
                    session.effects.due.entry(queue).or_default().push(start.id);
                }
                None => ended.push((start, values)),
            }
        }
        session.effects.started.push((definition_name, started));
    }
    session.savepoints.release(conn)?;
    if !refused.is_empty() {
        let ids: Vec<Uuid> = refused.keys().copied().collect();
        store::starts::delete(conn, &ids).await?;
    }
    if !refused_children.is_empty() {
        store::children::refuse(conn, &refused_children).await?;
    }
    if !history.is_empty() {
        let worker = core.worker;
        store::history_runs::append(conn, &history, worker).await?;
    }
    record_ends(session, conn, ended).await?;
    Ok(refused)
}

/// Calls the observers of sagas whose entry step was their only step, and records their end.
async fn record_ends(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    ended: Vec<(ValidatedStart, StoredValues)>,
) -> Result<(), StepError> {
    let mut results = Vec::new();
    for (start, values) in ended {
        let result = result(session.core, &start, &values);
        let given = result.as_ref().and_then(|result| result.as_ref().ok());
        let change = StatusChange {
            saga_id: start.id,
            input: start.input.json().clone(),
            status: Status::Completed,
            cause: None,
            result: given.map(|given| given.json().clone()),
            error: result.as_ref().and_then(|result| result.as_ref().err().cloned()),
        };
        if let Some(observer) = &start.definition.observer {
            let mut tx = Tx::new(conn, session);
            match run_user_code(ENTRY_TIMEOUT, observer.status_changed(&mut tx, &[change])).await {
                Ok(notified) => notified?,
                Err(failure) => {
                    session.user_code.cancelled_mid_statement = true;
                    let name = &start.definition.graph.name;
                    return Err(StepError::Other(format!("the observer of `{name}` {failure}")));
                }
            }
        }
        let json = given.map(StoredValue::to_json);
        session
            .effects
            .ended
            .push((start.id, FinalStatus { status: Status::Completed, cause: None, result: json }));
        results.extend(result.map(|result| (start.id.0, result)));
    }
    if !results.is_empty() {
        store::starts::write_results(conn, &results).await?;
    }
    Ok(())
}

/// What a saga gives that is completed by its entry step; `None` if its definition gives nothing.
fn result(core: &Core, start: &ValidatedStart, values: &StoredValues) -> Option<store::starts::EntryResult> {
    start.definition.result(start.id, values, core.settings.max_payload).transpose()
}

/// The end of a child that its entry step refuses. It stays, so that its parent reads it.
struct Refusal {
    row: HistoryRow,
    child: RefusedChild,
}

fn refusal(start: &ValidatedStart, failure: &Failure) -> Refusal {
    let failure = storable_failure(failure);
    let step = start.definition.graph.steps[0].name.clone();
    let (error, details) = (vec![failure.message.clone()], storable_details(failure.details.clone()));
    let row = HistoryRow {
        saga_id: start.id.0,
        seq: 1,
        step: step.clone(),
        direction: Direction::Action.name(),
        outcome: HistoryOutcome::Failed,
        attempt: 1,
        started: Instant::now(),
        duration: Duration::ZERO,
        output: None,
        error,
        details: (!details.is_null()).then(|| details.to_string()),
        epoch: 0,
    };
    let cause = Cause::Failed { step: step.clone(), failure };
    let error = cause.sentence();
    let cause = serde_json::to_string(&cause).unwrap_or_else(|_| "null".into());
    Refusal { row, child: RefusedChild { id: start.id.0, step, cause, error } }
}

struct EntryResult {
    row: HistoryRow,
    output: Option<StoredValue>,
}

/// Runs the entry step for all starts of one definition; `Ok(None)` for a definition without one.
async fn run_entry_step(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
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
            values: StoredValues::new(start.input.clone()),
            cause: None,
            trace: start.trace.as_deref().map(Into::into),
            context: start.context.clone(),
            call: None,
            idempotency_key_salt: None,
        })
        .collect();
    let began = Instant::now();
    let run = StepRun {
        definition: &definition,
        side: StepSide { direction: Direction::Action, step_index: 0 },
        limit: node.retry.timeout.min(ENTRY_TIMEOUT),
        rest: if session.can_split { Rest::Split } else { Rest::Run },
    };
    let answers = match run_step(session, conn, run, &invocations).await {
        Ok(answers) => answers,
        Err(StepRunError::Step(error)) => return Err(error),
        Err(StepRunError::UserCode(failure)) => {
            session.user_code.cancelled_mid_statement = true;
            return Err(StepError::Other(format!("entry step `{}` {failure}", node.name)));
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
                    output: output.as_ref().map(|output| output.stored().clone()),
                    error: Vec::new(),
                    details: None,
                    epoch: 0,
                },
                output,
            })),
            StepAnswer::Outcome(Outcome::Fail(failure)) | StepAnswer::OutputTooLarge(failure) => {
                Err(StartError::Refused(failure))
            }
            StepAnswer::Outcome(Outcome::Retry(retry)) => {
                let why = retry.error.join(": ");
                if retry.counts == Counts::Snooze {
                    session.put_off.push((invocation.saga_id, retry));
                }
                Err(StartError::Unavailable(why))
            }
            StepAnswer::InputUnreadable(reason) | StepAnswer::OutputUnstorable(reason) => {
                Err(StartError::bad_input(reason))
            }
            StepAnswer::NotRun => Err(StartError::Unavailable("its entry step was not run".into())),
        })
        .collect())
}

fn job(core: &Core, start: ValidatedStart, values: StoredValues, slots: JobSlots) -> Job {
    let mut state = start.state;
    state.attempt = 1;
    let history_seq = i32::from(start.definition.graph.steps[0].entry);
    Job {
        saga_id: start.id,
        definition_name: start.definition.graph.name.as_str().into(),
        queue: start.definition.graph.queue.as_str().into(),
        step: start.definition.graph.steps[state.step_index].name.as_str().into(),
        state,
        epoch: 1,
        history_seq,
        values,
        trace: start.trace.map(Into::into),
        ancestry: start.child_of.as_ref().map(Ancestry::of).unwrap_or_default(),
        interrupted: false,
        unreadable: None,
        isolated: false,
        lease: core.leases.track(start.id, 1),
        slots,
        definition: start.definition,
    }
}
