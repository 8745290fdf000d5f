//! Runs every case of a proof against a real database.

mod waits;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use sqlx::PgPool;

use crate::testing::{
    cases::{Case, CaseFaults, Kind, cases, expected, failing_step_after},
    engine_run::EngineRun,
    invariants::history_violations,
};
use crate::{
    definition::{new_saga::NewSaga, saga::Definition},
    engine::Engine,
    model::{
        dead_job::DeadJobFilter,
        error::{BuildError, CancelError, StartError},
        graph::{Graph, UNKNOWN_GRAPH},
        ids::SagaId,
        page::Page,
        signal::Signal,
        status::{Direction, Status},
        views::{FinalStatus, HistoryEntry, HistoryOutcome, SagaView},
    },
    support::bounded_list::ListError,
};

/// The time limit of a case.
const LIMIT: Duration = Duration::from_secs(30);

type Start = Box<dyn Fn() -> NewSaga + Send + Sync>;
type NextSignal = Box<dyn Fn() -> Signal + Send + Sync>;
type Check = Arc<dyn Fn(Run) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// A saga to be proved.
pub struct Proof {
    saga: String,
    pool: PgPool,
    definitions: Box<dyn Fn() -> Vec<Definition> + Send + Sync>,
    starts: Vec<Start>,
    noes: Vec<(String, Start)>,
    signals: Vec<NextSignal>,
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

impl Report {
    fn add(&mut self, case: Case, violations: Vec<String>) {
        self.violations.extend(violations.into_iter().map(|violation| (case.clone(), violation)));
        self.cases.push(case);
    }
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
    /// The dead jobs could not be listed.
    #[error(transparent)]
    List(#[from] ListError),
}

impl Proof {
    /// Prepares the proof of the saga named `saga`. `definitions` builds it together with all sagas that it starts,
    /// once for each case; `start` returns a start that completes if no fault is injected, and each time takes the same arms.
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
            starts: vec![Box::new(start)],
            noes: Vec::new(),
            signals: Vec::new(),
            check: None,
        }
    }

    /// Adds another start, for arms of choices that the first one does not take. Every step of the graph has to be on the way
    /// of some start.
    pub fn also(mut self, start: impl Fn() -> NewSaga + Send + Sync + 'static) -> Self {
        self.starts.push(Box::new(start));
        self
    }

    /// Adds a case: the step `step` itself answers the saga of this start with a no (it fails, or is to be repeated).
    /// Nothing that it has written may stay, which is what a batch step owes. If it is an entry step, the start is
    /// refused, and the caller's own check is not run.
    pub fn says_no(mut self, step: &str, start: impl Fn() -> NewSaga + Send + Sync + 'static) -> Self {
        self.noes.push((step.into(), Box::new(start)));
        self
    }

    /// Sends this signal to the saga when it waits for one of its name; without one, the wait times out. Sleeps end at once.
    pub fn signal(mut self, signal: impl Fn() -> Signal + Send + Sync + 'static) -> Self {
        self.signals.push(Box::new(signal));
        self
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
        let mut covered = vec![false; graph.steps.len()];
        let mut path = Vec::new();
        for start in &self.starts {
            let nothing = Case { step: String::new(), kind: Kind::Nothing };
            let saga = self.prove(&mut report, &graph, &path, nothing, start()).await?;
            path = graph.path(&saga.arms, usize::MAX).collect();
            let new: Vec<usize> = path.iter().copied().filter(|at| !covered[*at]).collect();
            for case in cases(&graph, &path, &new) {
                self.prove(&mut report, &graph, &path, case, start()).await?;
            }
            for at in new {
                covered[at] = true;
            }
        }
        for (node, _) in graph.steps.iter().zip(covered).filter(|(_, covered)| !covered) {
            let case = Case { step: node.name.clone(), kind: Kind::Nothing };
            report.violations.push((case, "no start comes to this step: add one with `also`".into()));
        }
        for (step, start) in &self.noes {
            let (case, new) = (Case { step: step.clone(), kind: Kind::ActionSaysNo }, start());
            if graph.steps[0].entry && graph.steps[0].name == case.step {
                let violations = self.refused(&case, new).await?;
                report.add(case, violations);
            } else {
                self.prove(&mut report, &graph, &path, case, new).await?;
            }
        }
        Ok(report)
    }

    /// Runs one case, with this start of a saga that takes this path.
    async fn prove(
        &self,
        report: &mut Report,
        graph: &Graph,
        path: &[usize],
        case: Case,
        new: NewSaga,
    ) -> Result<SagaView, ProofError> {
        let (saga, history, notes) = self.one(graph, path, &case, new).await?;
        let mut violations = history_violations(graph, &saga, &history);
        violations.extend(notes);
        if let Some(wanted) = expected(graph, &case).filter(|wanted| saga.status != *wanted) {
            violations.push(format!("ended {}, not {wanted}: {}", saga.status, summary(&history)));
        }
        if let Some(check) = &self.check {
            let final_status = FinalStatus { status: saga.status, cause: saga.cause.clone(), result: None };
            let run = Run {
                case: case.clone(),
                saga_id: saga.saga_id,
                final_status,
                pool: self.pool.clone(),
                history,
            };
            violations.extend(check(run).await.err());
        }
        report.add(case, violations);
        Ok(saga)
    }

    async fn one(
        &self,
        graph: &Graph,
        path: &[usize],
        case: &Case,
        new: NewSaga,
    ) -> Result<(SagaView, Vec<HistoryEntry>, Vec<String>), ProofError> {
        let undo_case = matches!(
            case.kind,
            Kind::UndoCrashesBeforeCommit | Kind::UndoCrashesAfterCommit | Kind::UndoNeedsAPerson
        );
        let undone = graph.position(&case.step).filter(|_| undo_case);
        let failing = undone.and_then(|at| failing_step_after(graph, path, at));
        let mut case_faults = CaseFaults::new(new.saga_id(), case, failing);
        if case.kind == Kind::ChildFails {
            case_faults.failing_children = self.first_steps_of_children(graph, &case.step);
        }
        let case_faults = Arc::new(case_faults);
        let saga_id = new.saga_id();
        let mut notes = Vec::new();
        let is_early = case.kind == Kind::SignalComesEarly;
        let new = match graph.position(&case.step).and_then(|at| graph.steps[at].signal()) {
            Some(name) if is_early => match self.signal_named(name, &case.step) {
                Some(signal) => {
                    case_faults.spent.store(true, Ordering::Release);
                    new.signal(signal)
                }
                None => new,
            },
            Some(_) | None => new,
        };
        let mut start = Some(new);
        let began = Instant::now();
        loop {
            let run = EngineRun::open(self.builder(), &case_faults)?;
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
        notes.extend(case_faults.take_leftovers());
        let needs_fault = case.kind != Kind::Nothing && case.kind != Kind::CancelledThere;
        if needs_fault && !fault_happened(&case_faults, &history) {
            notes.push("the fault was never met, so this case proved nothing".into());
        }
        Ok((saga, history, notes))
    }

    /// The definitions of the children of a step, each with its first step whose action can be made to fail.
    fn first_steps_of_children(&self, graph: &Graph, step: &str) -> Vec<(String, String)> {
        let node = graph.position(step).map(|at| &graph.steps[at]);
        let children = node.and_then(|node| node.children.as_ref());
        let definitions = (self.definitions)();
        let first = |name: &String| {
            let child = definitions.iter().map(Definition::graph).find(|child| child.name == *name)?;
            let first = child.steps.iter().find(|node| node.kind.has_action() && !node.entry)?;
            Some((name.clone(), first.name.clone()))
        };
        children.iter().flat_map(|children| &children.definitions).filter_map(first).collect()
    }

    /// Runs a start that its entry step refuses, and returns the violations.
    async fn refused(&self, case: &Case, new: NewSaga) -> Result<Vec<String>, ProofError> {
        let case_faults = Arc::new(CaseFaults::new(new.saga_id(), case, None));
        let run = EngineRun::open(self.builder(), &case_faults)?;
        let answer = run.engine.start(new).await;
        run.close().await;
        let mut violations = case_faults.take_leftovers();
        match answer {
            Err(StartError::Refused(_) | StartError::Unavailable(_)) => {}
            Ok(_) => violations.push("the entry step did not say no, so this case proved nothing".into()),
            Err(
                error @ (StartError::UnknownDefinition(_)
                | StartError::BadInput { .. }
                | StartError::InputTooLarge { .. }),
            ) => {
                return Err(error.into());
            }
        }
        Ok(violations)
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
            let cancels =
                case_faults.case.kind == Kind::CancelledThere && !case_faults.spent.load(Ordering::Acquire);
            if cancels {
                self.cancel_when_held(engine, saga_id, case_faults, notes).await?;
            }
            self.end_wait(engine, saga_id, case_faults, notes).await?;
            if !cancels {
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
        let is_in_wait = saga.waits_for.is_some() && saga.wait_until.is_some();
        let held = saga.step == case_faults.case.step
            && saga.lease_owner.is_none()
            && (saga.error.is_some() || is_in_wait);
        if !held {
            return Ok(());
        }
        case_faults.spent.store(true, Ordering::Release);
        let wanted = expected(
            engine.definition(&saga.definition).map_or(&UNKNOWN_GRAPH, Definition::graph),
            &case_faults.case,
        );
        match (engine.cancel(saga_id, "a test", "to see it compensate").await, wanted) {
            (Ok(_), Some(Status::Compensated))
            | (Err(CancelError::PastPivot { .. }), Some(Status::Completed)) => {}
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
        let Some(job) = dead.items.iter().find(|job| job.saga_id == saga_id) else { return Ok(false) };
        case_faults.spent.store(true, Ordering::Release);
        // No other operator acts on the dead jobs of a proof.
        Ok(engine.retry_dead_job(job.dead_job_id, "a test", "the cause is fixed").await.is_ok())
    }

    fn builder(&self) -> crate::builder::EngineBuilder {
        (self.definitions)()
            .into_iter()
            .fold(Engine::builder(self.pool.clone()), crate::builder::EngineBuilder::register)
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("saga", &self.saga).finish_non_exhaustive()
    }
}

fn fault_happened(case_faults: &CaseFaults, history: &[HistoryEntry]) -> bool {
    let failed = |entry: &HistoryEntry| {
        matches!(
            entry.outcome,
            HistoryOutcome::Failed
                | HistoryOutcome::Exhausted
                | HistoryOutcome::Retry
                | HistoryOutcome::Snoozed
        )
    };
    match case_faults.case.kind {
        Kind::Nothing | Kind::CancelledThere => true,
        Kind::ActionFails | Kind::ActionNeverWorks => {
            history.iter().any(|entry| entry.step == case_faults.case.step && failed(entry))
        }
        Kind::ActionSaysNo => history.iter().any(|entry| {
            entry.step == case_faults.case.step && (failed(entry) || entry.outcome == HistoryOutcome::Snoozed)
        }),
        Kind::ActionCrashesBeforeCommit
        | Kind::ActionCrashesAfterCommit
        | Kind::SignalTimesOut
        | Kind::SignalComesEarly
        | Kind::SignalComesTwice
        | Kind::ChildFails
        | Kind::UndoCrashesBeforeCommit
        | Kind::UndoCrashesAfterCommit
        | Kind::UndoNeedsAPerson => case_faults.spent.load(Ordering::Acquire),
    }
}

fn summary(history: &[HistoryEntry]) -> String {
    let line = |entry: &HistoryEntry| format!("{} {} {}", entry.direction, entry.step, entry.outcome.name());
    history.iter().map(line).collect::<Vec<_>>().join(", ")
}
