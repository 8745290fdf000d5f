//! Runs the code of a transaction step over a batch. What a one-item step did for an item that gets a no is taken back:
//! `docs/decisions/0026-a-no-leaves-nothing-behind.md`.

#[cfg(feature = "testing")]
mod leftovers;

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use crate::{
    definition::{
        invocation::Invocation,
        no_rate::NoRate,
        saga::Definition,
        step_answer::StepAnswer,
        tx::{Items, Tx},
    },
    model::{
        error::StepError,
        outcome::{Outcome, Retry, chain},
        status::StepSide,
    },
    runtime::effects::Session,
    support::{
        connection::{Blame, blame},
        user_code::{UserCodeFailure, run_user_code},
    },
};

/// One side of a step that is to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepRun<'a> {
    pub(crate) definition: &'a Definition,
    pub(crate) side: StepSide,
    /// How long its code may take.
    pub(crate) limit: Duration,
    pub(crate) rest: Rest,
}

/// What to do with the items for which the transaction has no savepoint left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// They get [`StepAnswer::NotRun`].
    Leave,
    /// The run fails, and the caller splits the batch.
    Split,
    /// They are run all the same.
    Run,
}

/// Why a step gave no answers.
#[derive(Debug)]
pub(crate) enum StepRunError {
    /// Its SQL failed, or that of its savepoints.
    Step(StepError),
    /// It panicked or took too long.
    UserCode(UserCodeFailure),
}

impl From<sqlx::Error> for StepRunError {
    fn from(error: sqlx::Error) -> Self {
        Self::Step(error.into())
    }
}

/// Runs one side of a step. The answers have the order of the invocations.
pub(crate) async fn run_step(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    run: StepRun<'_>,
    invocations: &[Invocation],
) -> Result<Vec<StepAnswer>, StepRunError> {
    let action = &run.definition.actions[run.side.step_index];
    let Some(no_rate) = action.no_rate(run.side.direction) else {
        session.savepoints.release(conn)?;
        return batch(session, conn, run, invocations).await;
    };
    if !no_rate.expects_a_no(invocations.len())
        && let Some(answers) = together(session, conn, run, invocations, no_rate).await?
    {
        return Ok(answers);
    }
    one_by_one(session, conn, run, invocations, no_rate).await
}

/// Runs a batch step, which owes it to the engine that a no leaves nothing behind.
async fn batch(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    run: StepRun<'_>,
    invocations: &[Invocation],
) -> Result<Vec<StepAnswer>, StepRunError> {
    #[cfg(feature = "testing")]
    let before = leftovers::writes(session, conn).await?;
    let tx = Tx::new(conn, session);
    let (answers, _) = execute(tx, run, run.limit, invocations).await;
    session.savepoints.ran(true);
    let answers = answers.map(|answers| limited(session, run, answers));
    #[cfg(feature = "testing")]
    if let Ok(answers) = &answers {
        leftovers::report(session, conn, run, (invocations, answers), before).await?;
    }
    let answers = answers?;
    // What the step wrote for this item is taken back with the transaction, and bisecting finds the item.
    match answers.iter().find_map(StepAnswer::too_large) {
        Some(failure) => Err(StepRunError::Step(StepError::OutputTooLarge(failure.clone()))),
        None => Ok(answers),
    }
}

/// Runs a one-item step for all items behind one savepoint. If an item used the transaction and said no, everything is
/// taken back, and the result is `None`: the answers of the others may rest on what this item left behind. The no of an
/// item that is alone is kept.
async fn together(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    run: StepRun<'_>,
    invocations: &[Invocation],
    no_rate: &NoRate,
) -> Result<Option<Vec<StepAnswer>>, StepRunError> {
    session.savepoints.set(conn).await?;
    let effects = std::mem::take(&mut session.effects);
    let tx = Tx::stopping_when_tainted(conn, session);
    let (answers, items) = execute(tx, run, run.limit, invocations).await;
    session.savepoints.ran(items.used);
    let done = std::mem::replace(&mut session.effects, effects);
    let answers = limited(session, run, answers?);
    let tainted = items.tainted || answers.iter().any(|answer| answer.too_large().is_some());
    no_rate.record(items.ran, usize::from(tainted));
    if !tainted {
        session.effects.merge(done);
        return Ok(Some(answers));
    }
    session.savepoints.roll_back(conn).await?;
    Ok((invocations.len() == 1).then(|| answers.into_iter().map(failed_if_too_large).collect()))
}

/// Runs a one-item step for one item after the other, each behind a savepoint of its own, so that each is answered as
/// if those that got a no had not run. An item whose SQL fails is tried again later; the others are not affected.
async fn one_by_one(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    run: StepRun<'_>,
    invocations: &[Invocation],
    no_rate: &NoRate,
) -> Result<Vec<StepAnswer>, StepRunError> {
    let began = Instant::now();
    let mut answers = Vec::with_capacity(invocations.len());
    let mut noes = 0;
    for invocation in invocations {
        let late = !answers.is_empty() && began.elapsed() > run.limit / 2;
        match run.rest {
            Rest::Leave if late || !session.savepoints.take_item() => break,
            Rest::Split if !session.savepoints.take_item() => {
                no_rate.record(answers.len(), noes);
                let error =
                    "its batch has more items that say no than one transaction should have savepoints";
                return Err(StepRunError::Step(StepError::Other(error.into())));
            }
            Rest::Leave | Rest::Split | Rest::Run => {}
        }
        session.savepoints.set(conn).await?;
        let effects = std::mem::take(&mut session.effects);
        let tx = Tx::new(conn, session);
        let limit = run.limit.saturating_sub(began.elapsed());
        let (ran, items) = execute(tx, run, limit, std::slice::from_ref(invocation)).await;
        session.savepoints.ran(items.used);
        let done = std::mem::replace(&mut session.effects, effects);
        let (answer, keep) = match ran {
            Ok(ran) => {
                let answer = limited(session, run, ran).pop();
                let too_large = answer.as_ref().is_some_and(|answer| answer.too_large().is_some());
                (answer.map(failed_if_too_large), !(items.tainted || too_large))
            }
            Err(StepRunError::Step(error)) if is_at_fault(session, &error) => {
                let retry = Retry::of(chain(&error));
                (Some(StepAnswer::Outcome(Outcome::Retry(retry))), false)
            }
            Err(error) => return Err(error),
        };
        if keep {
            session.effects.merge(done);
        } else {
            noes += 1;
            session.savepoints.roll_back(conn).await?;
        }
        answers.extend(answer);
    }
    no_rate.record(answers.len(), noes);
    answers.resize(invocations.len(), StepAnswer::NotRun);
    Ok(answers)
}

/// Checks the sizes of the outputs.
fn limited(session: &Session<'_>, run: StepRun<'_>, answers: Vec<StepAnswer>) -> Vec<StepAnswer> {
    let step = &run.definition.graph.steps[run.side.step_index].name;
    let limit = session.core.settings.max_payload;
    answers.into_iter().map(|answer| answer.within(limit, step)).collect()
}

/// The answer of an item that is taken back if its output is too large.
fn failed_if_too_large(answer: StepAnswer) -> StepAnswer {
    match answer.too_large() {
        Some(failure) => StepAnswer::Outcome(Outcome::Fail(failure.clone())),
        None => answer,
    }
}

/// Whether an error is about the item that ran, and the connection can go on.
fn is_at_fault(session: &Session<'_>, error: &StepError) -> bool {
    match error {
        StepError::Database(error) => blame(error) == Blame::Statement,
        StepError::Start(_) | StepError::OutputTooLarge(_) | StepError::Other(_) => {
            !session.user_code.cancelled_mid_statement
        }
    }
}

/// Runs the step's code once, under a time limit.
async fn execute(
    mut tx: Tx<'_>,
    run: StepRun<'_>,
    limit: Duration,
    invocations: &[Invocation],
) -> (Result<Vec<StepAnswer>, StepRunError>, Items) {
    let action = &run.definition.actions[run.side.step_index];
    let code = action.in_transaction(run.side.direction, &mut tx, invocations);
    let answers = match run_user_code(limit, code).await {
        Ok(answers) => answers.map_err(StepRunError::Step),
        Err(failure) => Err(StepRunError::UserCode(failure)),
    };
    (answers, tx.items())
}
