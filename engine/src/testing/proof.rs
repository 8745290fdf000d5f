//! Runs every case of a proof against a real database.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::testing::{
    cases::{Case, CaseFaults, Kind, cases, expected, failing_step_after},
    invariants::history_violations,
};
use crate::{
    definition::{new_saga::NewSaga, saga::Definition},
    engine::Engine,
    model::{
        dead_job::DeadJobFilter,
        error::{BuildError, CancelError, StartError},
        ids::SagaId,
        status::{Direction, Status},
        views::{FinalStatus, HistoryEntry, HistoryOutcome, Page, SagaView},
    },
};

/// The time limit of a case.
const LIMIT: Duration = Duration::from_secs(30);

type Check = Arc<dyn Fn(Run) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// A saga to be proved.
pub struct Proof {
    saga: String,
    pool: PgPool,
    definitions: Box<dyn Fn() -> Vec<Definition> + Send + Sync>,
    start: Box<dyn Fn() -> NewSaga + Send + Sync>,
    check: Option<Check>,
}

/// The result of one case, for the caller's own checks.
#[derive(Clone, Debug)]
pub struct Run {
    /// The case that was run.
    pub case: Case,
    /// The id of the saga.
    pub saga_id: SagaId,
    /// The status in which the saga ended or died.
    pub final_status: FinalStatus,
    /// The database that it ran on.
    pub pool: PgPool,
    /// The saga's history.
    pub history: Vec<HistoryEntry>,
}

impl Run {
    /// How often a step's action took effect, less its undos.
    pub fn effects_of(&self, step: &str) -> i64 {
        let done = |direction| {
            let matches = |entry: &&HistoryEntry| {
                entry.step == step && entry.direction == direction && entry.outcome == HistoryOutcome::Done
            };
            i64::try_from(self.history.iter().filter(matches).count()).unwrap_or(i64::MAX)
        };
        done(Direction::Action) - done(Direction::Undo)
    }
}

/// The result of a proof.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The cases that were run.
    pub cases: Vec<Case>,
    /// The violations, each with its case.
    pub violations: Vec<(Case, String)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} cases, {} violations", self.cases.len(), self.violations.len())?;
        self.violations.iter().try_for_each(|(case, violation)| writeln!(f, "  {case}: {violation}"))
    }
}

/// Why a proof could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The saga is not among the definitions.
    #[error("no saga is named `{0}`")]
    UnknownSaga(String),
    /// The engine could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A saga could not be started.
    #[error("the saga could not be started")]
    Start(#[from] StartError),
    /// The database refused a statement or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

impl Proof {
    /// Prepares the proof of the saga named `saga`. `definitions` builds it together with all sagas that it starts,
    /// once for each case; `start` returns a start that completes if no fault is injected.
    pub fn of(
        saga: &str,
        pool: PgPool,
        definitions: impl Fn() -> Vec<Definition> + Send + Sync + 'static,
        start: impl Fn() -> NewSaga + Send + Sync + 'static,
    ) -> Self {
        Self {
            saga: saga.into(),
            pool,
            definitions: Box::new(definitions),
            start: Box::new(start),
            check: None,
        }
    }

    /// Adds the caller's own check, run after each case.
    pub fn check<F>(mut self, check: impl Fn(Run) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.check = Some(Arc::new(move |run| Box::pin(check(run))));
        self
    }

    /// Runs all cases, one after the other.
    ///
    /// # Errors
    /// When a case could not be run at all. Violations are in the report.
    pub async fn run(self) -> Result<Report, ProofError> {
        let definitions = (self.definitions)();
        let graph = definitions
            .iter()
            .map(Definition::graph)
            .find(|graph| graph.name == self.saga)
            .ok_or_else(|| ProofError::UnknownSaga(self.saga.clone()))?
            .clone();
        let mut report = Report::default();
        for case in cases(&graph) {
            let (saga, history, notes) = self.one(&graph, &case).await?;
            let mut violations = history_violations(&graph, &saga, &history);
            violations.extend(notes);
            let wanted = expected(&graph, &case);
            if saga.status != wanted {
                violations.push(format!("ended {}, not {wanted}: {}", saga.status, summary(&history)));
            }
            if let Some(check) = &self.check {
                let final_status = FinalStatus { status: saga.status, cause: saga.cause.clone() };
                let run = Run {
                    case: case.clone(),
                    saga_id: saga.saga_id,
                    final_status,
                    pool: self.pool.clone(),
                    history,
                };
                violations.extend(check(run).await.err());
            }
            report.violations.extend(violations.into_iter().map(|violation| (case.clone(), violation)));
            report.cases.push(case);
        }
        Ok(report)
    }

    async fn one(
        &self,
        graph: &crate::model::graph::Graph,
        case: &Case,
    ) -> Result<(SagaView, Vec<HistoryEntry>, Vec<String>), ProofError> {
        let new = (self.start)();
        let undo_case = matches!(
            case.kind,
            Kind::UndoCrashesBeforeCommit | Kind::UndoCrashesAfterCommit | Kind::UndoNeedsAPerson
        );
        let failing =
            graph.position(&case.step).filter(|_| undo_case).and_then(|at| failing_step_after(graph, at));
        let case_faults = Arc::new(CaseFaults {
            saga_id: new.saga_id(),
            case: case.clone(),
            failing: failing.map(str::to_owned),
            spent: AtomicBool::new(false),
        });
        let saga_id = new.saga_id();
        let mut notes = Vec::new();
        let mut start = Some(new);
        let began = Instant::now();
        loop {
            let run = self.open(&case_faults)?;
            if let Some(new) = start.take() {
                run.engine.start(new).await?;
            }
            let settled = self.drive(&run.engine, saga_id, &case_faults, began, &mut notes).await;
            let dead = run.engine.worker();
            run.close().await;
            if settled? || began.elapsed() > LIMIT {
                break;
            }
            // The engine crashed: skip the time until the lease of its claim ends.
            crate::testing::hooks::expire_leases(&self.pool, dead).await?;
        }
        let engine = self.builder().build()?;
        let saga = engine.saga(saga_id).await?.ok_or(sqlx::Error::RowNotFound)?;
        let history = engine.history(saga_id).await?.unwrap_or_default();
        let violation = crate::operate::verify::check_history(&engine.core, &self.pool, &saga).await?;
        notes.extend(violation.map(|violation| violation.violation));
        engine.shutdown().await;
        let needs_fault = case.kind != Kind::Nothing && case.kind != Kind::CancelledThere;
        if needs_fault && !fault_happened(&case_faults, &history) {
            notes.push("the fault was never met, so this case proved nothing".into());
        }
        Ok((saga, history, notes))
    }

    /// Waits until the saga has ended or is dead (true) or the engine has crashed (false). Cancels the saga or retries
    /// its dead job if the case says so.
    async fn drive(
        &self,
        engine: &Engine,
        saga_id: SagaId,
        case_faults: &CaseFaults,
        began: Instant,
        notes: &mut Vec<String>,
    ) -> Result<bool, ProofError> {
        while began.elapsed() < LIMIT {
            if engine.core.faults.is_crashed() {
                return Ok(false);
            }
            if engine.wait(saga_id, Duration::from_millis(20)).await?.is_some() {
                let again = case_faults.case.kind == Kind::UndoNeedsAPerson
                    && self.retry_dead_job_once(engine, saga_id, case_faults).await?;
                if !again {
                    return Ok(true);
                }
            }
            if case_faults.case.kind == Kind::CancelledThere && !case_faults.spent.load(Ordering::Acquire) {
                self.cancel_when_held(engine, saga_id, case_faults, notes).await?;
            } else {
                crate::testing::hooks::make_all_due(&self.pool).await?;
                engine.core.feeds.wake_all();
            }
        }
        notes.push(format!("neither ended nor dead after {} s", LIMIT.as_secs()));
        Ok(true)
    }

    async fn cancel_when_held(
        &self,
        engine: &Engine,
        saga_id: SagaId,
        case_faults: &CaseFaults,
        notes: &mut Vec<String>,
    ) -> Result<(), ProofError> {
        let saga = engine.saga(saga_id).await?.ok_or(sqlx::Error::RowNotFound)?;
        let held = saga.step == case_faults.case.step && saga.lease_owner.is_none() && saga.error.is_some();
        if !held {
            return Ok(());
        }
        case_faults.spent.store(true, Ordering::Release);
        let wanted = expected(
            engine
                .definition(&saga.definition)
                .map_or(&crate::model::graph::UNKNOWN_GRAPH, Definition::graph),
            &case_faults.case,
        );
        match (engine.cancel(saga_id, "a test", "to see it compensate").await, wanted) {
            (Ok(_), Status::Compensated) | (Err(CancelError::PastPivot { .. }), Status::Completed) => {}
            (answer, _) => notes.push(format!("the cancel was answered {answer:?}")),
        }
        Ok(())
    }

    /// Retries the dead job, once, and lets the undo succeed from now on.
    async fn retry_dead_job_once(
        &self,
        engine: &Engine,
        saga_id: SagaId,
        case_faults: &CaseFaults,
    ) -> Result<bool, ProofError> {
        if case_faults.spent.load(Ordering::Acquire) {
            return Ok(false);
        }
        let page = Page { after: None, limit: 1000 };
        let dead = engine.dead_jobs(&DeadJobFilter::default(), page).await?;
        let Some(job) = dead.iter().find(|job| job.saga_id == saga_id) else { return Ok(false) };
        case_faults.spent.store(true, Ordering::Release);
        // No other operator acts on the dead jobs of a proof.
        Ok(engine.retry_dead_job(job.dead_job_id, "a test", "the cause is fixed").await.is_ok())
    }

    fn builder(&self) -> crate::builder::EngineBuilder {
        (self.definitions)()
            .into_iter()
            .fold(Engine::builder(self.pool.clone()), crate::builder::EngineBuilder::register)
    }

    fn open(&self, case_faults: &Arc<CaseFaults>) -> Result<EngineRun, ProofError> {
        let engine = crate::testing::hooks::with_faults(self.builder(), case_faults.clone()).build()?;
        let queues: std::collections::BTreeSet<String> =
            engine.definitions().map(|definition| definition.graph().queue.clone()).collect();
        let stop = CancellationToken::new();
        let workers = queues.iter().map(|queue| {
            let (engine, mut feed, stop) = (engine.clone(), engine.feed(queue, 64), stop.clone());
            tokio::spawn(async move { engine.run(&mut feed, stop).await })
        });
        Ok(EngineRun { workers: workers.collect(), engine: engine.clone(), stop })
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("saga", &self.saga).finish_non_exhaustive()
    }
}

/// One engine with its workers, as one run of a process.
struct EngineRun {
    engine: Engine,
    workers: Vec<tokio::task::JoinHandle<()>>,
    stop: CancellationToken,
}

impl EngineRun {
    async fn close(self) {
        self.stop.cancel();
        if self.engine.core.faults.is_crashed() {
            // A crashed process does not finish its jobs.
            self.workers.iter().for_each(tokio::task::JoinHandle::abort);
        }
        for worker in self.workers {
            // Aborted or done: in both cases the worker has ended.
            let _ = worker.await;
        }
        self.engine.shutdown().await;
    }
}

fn fault_happened(case_faults: &CaseFaults, history: &[HistoryEntry]) -> bool {
    let failed = |entry: &HistoryEntry| {
        matches!(entry.outcome, HistoryOutcome::Failed | HistoryOutcome::Exhausted | HistoryOutcome::Retry)
    };
    match case_faults.case.kind {
        Kind::Nothing | Kind::CancelledThere => true,
        Kind::ActionFails | Kind::ActionNeverWorks => {
            history.iter().any(|entry| entry.step == case_faults.case.step && failed(entry))
        }
        Kind::ActionCrashesBeforeCommit
        | Kind::ActionCrashesAfterCommit
        | Kind::UndoCrashesBeforeCommit
        | Kind::UndoCrashesAfterCommit
        | Kind::UndoNeedsAPerson => case_faults.spent.load(Ordering::Acquire),
    }
}

fn summary(history: &[HistoryEntry]) -> String {
    let line = |entry: &HistoryEntry| format!("{} {} {}", entry.direction, entry.step, entry.outcome.name());
    history.iter().map(line).collect::<Vec<_>>().join(", ")
}
