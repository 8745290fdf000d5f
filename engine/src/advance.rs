//! Moves a batch of claimed sagas as far as it can in one transaction: applies the results of calls, runs the steps that
//! follow as batches, one after the other, and writes history and new states under the fence.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::value::RawValue;
use sqlx::PgConnection;

use crate::{
    burial::{self, Rites},
    engine::Inner,
    erased::Answer,
    faults::{DisabledGuard, Fault},
    guard,
    job::{Job, Performed, PerformedKind},
    lane::Berth,
    saga::Definition,
    status::Direction,
    store::{
        self,
        moves::{Fenced, HistoryRow, MoveRow},
    },
    tally::Tally,
    transition::State,
    trouble::{Trouble, trouble},
    tx::{AfterCommit, Tx},
    view::FinalStatus,
    walker::Walker,
    watch::StatusChange,
};

/// One saga of the batch, on its way.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) job: Job,
    /// The result of a call, until it is applied.
    pub(crate) performed: Performed,
}

impl Track {
    /// Whether the outside world was called.
    pub(crate) fn called(&self) -> bool {
        matches!(self.performed.kind, PerformedKind::Called { .. })
    }

    /// Where it was called.
    pub(crate) fn called_at(&self) -> Option<(Direction, usize)> {
        self.called().then_some((self.job.state.direction, self.job.state.at))
    }
}

/// What is done about a saga that is now alone and still can't be committed.
#[derive(Clone, Debug, Default)]
pub(crate) enum Remedy {
    /// Nothing yet.
    #[default]
    None,
    /// These steps are known to break: they are not run again but answered for, each as a failed attempt.
    Blame(Vec<Culprit>),
    /// Blaming did not help either: the saga is parked with this error, and no observer is told, lest it be the one that
    /// breaks.
    Park(Vec<String>),
}

/// A step that is known to break.
#[derive(Clone, Debug)]
pub(crate) struct Culprit {
    pub(crate) direction: Direction,
    pub(crate) at: usize,
    pub(crate) error: Vec<String>,
}

impl Remedy {
    /// The next remedy, given that this one failed at `at`; `None` when there is none left.
    pub(crate) fn next(self, at: Option<(Direction, usize)>, error: Vec<String>) -> Option<Self> {
        let known = |culprits: &[Culprit], (direction, at): (Direction, usize)| {
            culprits.iter().any(|culprit| (culprit.direction, culprit.at) == (direction, at))
        };
        let mut culprits = match self {
            Self::None => Vec::new(),
            Self::Blame(culprits) => culprits,
            Self::Park(_) => return None,
        };
        let Some((direction, at)) = at.filter(|at| !known(&culprits, *at)) else {
            return Some(Self::Park(error));
        };
        culprits.push(Culprit { direction, at, error });
        Some(Self::Blame(culprits))
    }

    /// The error that a step is blamed for.
    pub(crate) fn blames(&self, direction: Direction, at: usize) -> Option<&[String]> {
        let Self::Blame(culprits) = self else { return None };
        let culprit = culprits.iter().find(|culprit| (culprit.direction, culprit.at) == (direction, at));
        culprit.map(|culprit| culprit.error.as_slice())
    }
}

/// What a committed batch came to.
#[derive(Debug, Default)]
pub(crate) struct Advanced {
    /// Sagas that go on with a call, claim kept, by their place in the batch.
    pub(crate) going_on: Vec<(usize, Onward)>,
    /// Places in the batch whose claim was lost.
    pub(crate) lost: Vec<usize>,
    /// The shortest wait of a saga that waits.
    pub(crate) next_due: Option<Duration>,
    pub(crate) after: AfterCommit,
    pub(crate) tally: Tally,
    /// A test wants the process to die here.
    pub(crate) crash: Option<Fault>,
}

/// Where a saga stands that goes on with its claim kept.
#[derive(Debug)]
pub(crate) struct Onward {
    pub(crate) state: State,
    pub(crate) step: Arc<str>,
    pub(crate) history_seq: i32,
    pub(crate) values: Vec<Option<Arc<RawValue>>>,
}

impl Onward {
    /// Turns the job that led here into the next one; it keeps its claim and its room.
    pub(crate) fn job(self, job: Job) -> Job {
        let Self { state, step, history_seq, values } = self;
        Job { state, step, history_seq, values, interrupted: false, ..job }
    }
}
/// Does it all but the commit, which is the caller's; see [`crate::lane`].
pub(crate) async fn advance(
    engine: &Inner,
    conn: &mut PgConnection,
    tracks: &[Track],
    remedy: &Remedy,
    berth: Berth,
    backend: &mut Option<i32>,
) -> Result<Advanced, Trouble> {
    let began = Instant::now();
    let mut advanced = Advanced::default();
    let mut walkers = enter(engine, conn, tracks, &mut advanced, backend).await?;
    let mut tx = Tx::new(conn, engine);
    let mut rows = Vec::with_capacity(tracks.len() * 2);

    for walker in &mut walkers {
        let track = &tracks[walker.place];
        if let Remedy::Park(error) = remedy {
            walker.give_in(error, &mut rows);
            continue;
        }
        match &track.performed.kind {
            PerformedKind::Called { answer, started, took, crash } => {
                walker.crash.clone_from(crash);
                let blamed = walker.blamed(remedy);
                walker.answered(blamed.as_ref().unwrap_or(answer), *started, *took, &mut rows);
            }
            PerformedKind::InSet => walker.unfit(&mut rows),
        }
        walker.interrupted(&mut rows);
    }
    let mut last = None;
    // Who has not come to the end by then goes on in a transaction of its own, with a fresh lease.
    let turn = engine.settings.turn();
    while began.elapsed() < turn
        && let Some((direction, at)) = next_batch(&walkers)
    {
        last = Some((direction, at));
        run_batch(&mut tx, &mut walkers, (direction, at), (remedy, berth), &mut rows).await?;
    }

    if !matches!(remedy, Remedy::Park(_)) {
        tell_watches(&mut tx, &walkers, last).await?;
    }
    let worker = engine.worker;
    if !rows.is_empty() {
        store::moves::append_history(&mut tx, &rows, worker)
            .await
            .map_err(|error| trouble(error.into(), last))?;
    }
    let places = engine.feeds.places();
    let moves: Vec<MoveRow> = walkers.iter().map(|walker| walker.row(&places)).collect();
    if !moves.is_empty() {
        let lease_ms = engine.lease_ms();
        let written = store::moves::move_sagas(&mut tx, &moves, worker, lease_ms)
            .await
            .map_err(|error| trouble(error.into(), last))?;
        if written != moves.len() as u64 && engine.disabled_guard() != Some(DisabledGuard::Fence) {
            let error = format!("{written} of {} locked sagas were written", moves.len());
            return Err(Trouble::Step { at: last, error: vec![error], midway: false });
        }
    }
    bury(&mut tx, &walkers, remedy, last).await?;

    let after = std::mem::take(&mut tx.after);
    finish(&walkers, &moves, after, &mut advanced);
    advanced.tally = Tally::of(&rows, &walkers);
    Ok(advanced)
}

/// Locks the sagas that are still ours and sets out with them.
async fn enter<'a>(
    engine: &Inner,
    conn: &mut PgConnection,
    tracks: &'a [Track],
    advanced: &mut Advanced,
    backend: &mut Option<i32>,
) -> Result<Vec<Walker<'a>>, Trouble> {
    let mut ids: Vec<_> = tracks.iter().map(|track| track.job.saga_id.0).collect();
    ids.sort_unstable();
    let unfenced = engine.disabled_guard() == Some(DisabledGuard::Fence);
    let fenced = if unfenced {
        store::moves::no_fence(conn, &ids).await
    } else {
        store::moves::fence(conn, &ids, engine.worker).await
    };
    let fenced = fenced.map_err(|error| trouble(error.into(), None))?;
    *backend = fenced.first().map(|row| row.backend);
    let fenced: HashMap<_, Fenced> = fenced.into_iter().map(|row| (row.id, row)).collect();
    let mut walkers = Vec::with_capacity(tracks.len());
    for (place, track) in tracks.iter().enumerate() {
        let job = &track.job;
        let ours = fenced
            .get(&job.saga_id.0)
            .filter(|row| unfenced || (row.epoch == job.epoch && row.history_seq == job.history_seq));
        match ours {
            Some(row) => walkers.push(Walker::new(place, job, row)),
            None => advanced.lost.push(place),
        }
    }
    walkers.sort_by_key(|walker| walker.job.saga_id);
    Ok(walkers)
}

/// The next set to run: forward first and the earliest step first, so that sagas behind catch up with those ahead.
fn next_batch(walkers: &[Walker<'_>]) -> Option<(Direction, usize)> {
    let runnable = walkers.iter().filter(|walker| walker.runs_in_transaction());
    runnable.map(|walker| (walker.state.direction, walker.state.at)).min_by_key(|(direction, at)| {
        match direction {
            Direction::Action => (0, *at),
            Direction::Undo => (1, usize::MAX - *at),
        }
    })
}

async fn run_batch(
    tx: &mut Tx<'_>,
    walkers: &mut [Walker<'_>],
    (direction, at): (Direction, usize),
    (remedy, berth): (&Remedy, Berth),
    rows: &mut Vec<HistoryRow>,
) -> Result<(), Trouble> {
    let engine = tx.engine;
    let here = Some((direction, at));
    let mut standing: Vec<&mut Walker<'_>> = walkers
        .iter_mut()
        .filter(|walker| {
            walker.runs_in_transaction() && (walker.state.direction, walker.state.at) == (direction, at)
        })
        .collect();
    let Some(definition) = standing.first().and_then(|walker| walker.definition.cloned()) else {
        return Ok(());
    };
    let node = &definition.graph.steps[at];
    for walker in &mut standing {
        walker.begin();
    }
    let mut visits = Vec::with_capacity(standing.len());
    let mut answers: Vec<Option<Answer>> = Vec::with_capacity(standing.len());
    for walker in &mut standing {
        let answer = walker.foretold(engine, remedy);
        if answer.is_none() {
            visits.push(walker.visit());
        }
        answers.push(answer);
    }
    let started = Instant::now();
    let spans: Vec<_> = standing.iter().map(|walker| walker.span(engine)).collect();
    if !visits.is_empty() {
        metrics::histogram!("sagaline_set_size")
            .record(f64::from(u32::try_from(visits.len()).unwrap_or(u32::MAX)));
        let policy = definition.graph.policy(at, direction);
        let run = definition.actions[at].in_transaction(direction, tx, &visits);
        // Alone and aside it harms nobody, and has the time that its policy gives it.
        let limit = match berth {
            Berth::Aside if visits.len() == 1 => policy.timeout,
            Berth::Aside | Berth::Lane => policy.timeout.min(engine.settings.turn()),
        };
        let ran = guard::guarded(limit, run).await;
        let mut ran = match ran {
            Ok(Ok(ran)) => ran.into_iter(),
            Ok(Err(error)) => return Err(trouble(error, here)),
            Err(broken) => {
                let error = vec![format!("step `{}` {broken}", node.name)];
                return Err(Trouble::Step { at: here, error, midway: true });
            }
        };
        for answer in &mut answers {
            if answer.is_none() {
                *answer = ran.next();
            }
        }
    }
    let took = started.elapsed();
    drop(spans);
    for (walker, answer) in standing.into_iter().zip(answers) {
        let answer = answer.unwrap_or_else(|| Answer::Unreadable("the step gave no answer".into()));
        walker.answered(&answer, started, took, rows);
        walker.interrupted(rows);
    }
    Ok(())
}

async fn tell_watches(
    tx: &mut Tx<'_>,
    walkers: &[Walker<'_>],
    last: Option<(Direction, usize)>,
) -> Result<(), Trouble> {
    let limit = tx.engine.settings.turn();
    let mut by_definition: BTreeMap<&str, (&Arc<Definition>, Vec<StatusChange>)> = BTreeMap::new();
    for walker in walkers.iter().filter(|walker| walker.rested) {
        let Some(definition) = walker.definition.filter(|definition| definition.watch.is_some()) else {
            continue;
        };
        let Some(input) = walker.values.first().cloned().flatten() else { continue };
        let change = StatusChange {
            saga_id: walker.job.saga_id,
            input,
            status: walker.state.status,
            cause: walker.state.cause.clone(),
            error: walker.error.clone(),
        };
        by_definition
            .entry(&definition.graph.name)
            .or_insert_with(|| (definition, Vec::new()))
            .1
            .push(change);
    }
    for (definition, changes) in by_definition.into_values() {
        if let Some(watch) = &definition.watch {
            match guard::guarded(limit, watch.status_changed(tx, &changes)).await {
                Ok(told) => told.map_err(|error| trouble(error, last))?,
                Err(broken) => {
                    let error = vec![format!("the observer of `{}` {broken}", definition.graph.name)];
                    return Err(Trouble::Step { at: last, error, midway: true });
                }
            }
        }
    }
    Ok(())
}

/// Files a dead job for every saga that was parked.
async fn bury(
    tx: &mut Tx<'_>,
    walkers: &[Walker<'_>],
    remedy: &Remedy,
    last: Option<(Direction, usize)>,
) -> Result<(), Trouble> {
    let dead: Vec<uuid::Uuid> =
        walkers.iter().filter(|walker| walker.dies()).map(|walker| walker.job.saga_id.0).collect();
    let rites = match remedy {
        Remedy::Park(_) => Rites::IfPossible,
        Remedy::None | Remedy::Blame(_) => Rites::Due,
    };
    burial::bury(tx, &dead, rites).await.map_err(|error| match trouble(error, last) {
        Trouble::Step { at, error, .. } => Trouble::Step { at, error, midway: tx.course.midway },
        other @ (Trouble::Transient(_) | Trouble::Locked(_)) => other,
    })
}

fn finish(walkers: &[Walker<'_>], moves: &[MoveRow], after: AfterCommit, advanced: &mut Advanced) {
    advanced.after = after;
    for (walker, row) in walkers.iter().zip(moves) {
        advanced.crash = advanced.crash.take().or_else(|| walker.crash.clone());
        if walker.rested {
            let ending = FinalStatus { status: walker.state.status, cause: walker.state.cause.clone() };
            advanced.after.ended.push((walker.job.saga_id, ending));
        } else if row.held {
            advanced.going_on.push((walker.place, walker.onward()));
        } else if walker.state.status.is_active() {
            let sooner = advanced.next_due.map_or(walker.delay, |due| due.min(walker.delay));
            advanced.next_due = Some(sooner);
        }
    }
}
