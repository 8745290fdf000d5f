//! Runs one case: processes replace each other until all of its sagas are at rest.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::PgPool;

use crate::{
    definition::new_saga::NewSaga,
    engine::Engine,
    model::{error::StartError, graph::Graph, ids::SagaId, views::SagaView},
    store,
    testing::{
        hooks,
        proof::{
            Proof, ProofError, Report,
            case::{Case, Kind},
            case_faults::{CaseFaults, is, set},
            child_faults::{Deaths, child_faults},
            plan::{action_after, failing_step_after},
            process::Process,
            report::Note,
            setup::{Setup, Version},
        },
    },
};

/// The time limit of a case.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// How long the outside waits for a saga before it looks again.
const LOOK: Duration = Duration::from_millis(10);

/// Why a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// All sagas are at rest.
    AtRest,
    Crashed,
    /// Another process is to replace it.
    Replaced(Version),
}

/// A case that runs.
pub(super) struct CaseRun<'a> {
    pub(super) proof: &'a Proof,
    pub(super) graph: &'a Graph,
    pub(super) timed_out: &'a BTreeSet<String>,
    pub(super) deaths: Deaths,
    pub(super) case: Case,
    pub(super) pool: PgPool,
    pub(super) faults: Arc<CaseFaults>,
    /// Those that were started.
    pub(super) sagas: Vec<SagaId>,
    pub(super) notes: Vec<Note>,
    /// Whether a process has died, so that what it was to tell others may be lost.
    pub(super) has_crashed: bool,
    /// Whether the signals were sent that come after the end.
    pub(super) sent_last: bool,
    /// Whether the sagas were cancelled between two processes.
    pub(super) has_cancelled: bool,
    began: Instant,
}

impl Proof {
    /// Runs one case and reports what does not hold. Returns the way that its first saga took.
    pub(super) async fn prove(
        &self,
        report: &mut Report,
        setup: Setup<'_>,
    ) -> Result<Vec<usize>, ProofError> {
        let database = self.databases.next().await;
        let pool = database.pool.clone();
        let before = self.rows(&pool).await?;
        let mut run = CaseRun::prepare(self, &setup, pool);
        let graph = setup.graph;
        run.run_to_rest(setup.sagas, setup.first).await?;
        let sagas = run.verdict(&before).await?;
        report.add(&run.case, std::mem::take(&mut run.notes));
        drop(run);
        database.close().await;
        let first = sagas.first();
        Ok(first.map(|saga| graph.path(&saga.arms, usize::MAX).collect()).unwrap_or_default())
    }
}

impl<'a> CaseRun<'a> {
    fn prepare(proof: &'a Proof, setup: &Setup<'a>, pool: PgPool) -> Self {
        let Setup { graph, path, case, sagas, struck, timed_out, .. } = setup;
        let ids: Vec<SagaId> = sagas.iter().map(NewSaga::saga_id).collect();
        let mut faults = CaseFaults::new(case, ids.iter().copied().collect(), struck.clone());
        faults.disabled_guard = proof.disabled_guard;
        let mut deaths = Deaths::default();
        if let Some(at) = graph.position(&case.step) {
            if case.kind.is_of_undo() {
                faults.failing = failing_step_after(graph, path, at).map(str::to_owned);
            }
            if case.kind == Kind::SignalComesLate {
                faults.held_for_signal = action_after(graph, path, at).map(|node| node.name.clone());
            }
            if graph.steps[at].kind.has_children() {
                let definitions = (proof.definitions)();
                deaths = Deaths::of(&definitions, &graph.steps[at]);
                faults.children = child_faults(&definitions, &graph.steps[at], case.kind);
            }
        }
        Self {
            proof,
            graph,
            timed_out,
            deaths,
            case: case.clone(),
            pool,
            faults: Arc::new(faults),
            sagas: ids,
            notes: Vec::new(),
            has_crashed: false,
            sent_last: false,
            has_cancelled: false,
            began: Instant::now(),
        }
    }

    pub(super) fn is_struck(&self, saga_id: SagaId) -> bool {
        self.faults.struck.contains(&saga_id)
    }

    /// Whether the case has taken as long as it may.
    pub(super) fn is_over(&self) -> bool {
        self.began.elapsed() > LIMIT
    }

    /// Starts the sagas and runs processes until all of them are at rest.
    async fn run_to_rest(&mut self, sagas: Vec<NewSaga>, first: Version) -> Result<(), ProofError> {
        let (mut version, mut sagas) = (first, Some(sagas));
        loop {
            let process = Process::open(self.builder(version), &self.faults)?;
            let exit = match sagas.take() {
                Some(sagas) => match self.start(&process, sagas).await {
                    Ok(()) => self.drive(&process).await,
                    Err(error) => Err(error),
                },
                None if version == Version::Newest => self.left_alone(&process).await,
                None => self.drive(&process).await,
            };
            let worker = process.engine.worker();
            process.close().await;
            version = match exit? {
                Exit::AtRest => return Ok(()),
                _ if self.is_over() => return Ok(()),
                Exit::Crashed => {
                    // Skips the time until the lease of its claims ends.
                    hooks::expire_leases(&self.pool, worker).await?;
                    // And the time for which it would count as alive.
                    store::processes::leave(&mut *self.pool.acquire().await?, worker).await?;
                    self.has_crashed = true;
                    version
                }
                Exit::Replaced(version) => version,
            };
            self.between_processes(version).await?;
        }
    }

    fn builder(&self, version: Version) -> crate::builder::EngineBuilder {
        let builder = self.proof.builder(&self.pool, version);
        match version {
            // It sets the sagas aside that no process knows, without the time that a deploy would give.
            Version::Newest => builder.unknown_grace(Duration::ZERO).sweep(LOOK),
            Version::Earlier | Version::Both => builder,
        }
    }

    /// An engine without workers, for the outside.
    pub(super) fn outside(&self) -> Result<Engine, ProofError> {
        Ok(self.proof.builder(&self.pool, Version::Both).build()?)
    }

    /// Starts all sagas in one transaction, unless the entry step refuses some.
    async fn start(&mut self, process: &Process, sagas: Vec<NewSaga>) -> Result<(), ProofError> {
        let sagas: Vec<NewSaga> = sagas.into_iter().map(|new| self.with_early_signal(new)).collect();
        let entry = self.graph.steps.first().filter(|node| node.entry).map(|node| &node.name);
        if self.case.kind == Kind::ActionSaysNo && entry == Some(&self.case.step) {
            return self.start_with_refusals(process, sagas).await;
        }
        let mut transaction = self.pool.begin().await?;
        for answer in process.engine.start_in(&mut transaction, sagas).await? {
            answer?;
        }
        transaction.commit().await?;
        process.engine.core.feeds.wake_all();
        Ok(())
    }

    async fn start_with_refusals(
        &mut self,
        process: &Process,
        sagas: Vec<NewSaga>,
    ) -> Result<(), ProofError> {
        let starts = sagas.into_iter().map(async |new| (new.saga_id(), process.engine.start(new).await));
        for (id, answer) in futures::future::join_all(starts).await {
            match answer {
                Err(StartError::Refused(_) | StartError::Unavailable(_)) if self.is_struck(id) => {
                    self.sagas.retain(|saga| *saga != id);
                }
                Ok(_) if self.is_struck(id) => {
                    self.note("the entry step did not say no, so this case proved nothing");
                }
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
        set(&self.faults.met);
        Ok(())
    }

    /// Acts on the sagas from outside until they are at rest or the process ends.
    async fn drive(&mut self, process: &Process) -> Result<Exit, ProofError> {
        while !self.is_over() {
            if process.has_crashed() {
                return Ok(Exit::Crashed);
            }
            let sagas = self.views().await?;
            let active: Vec<&SagaView> = sagas.iter().filter(|saga| saga.status.is_active()).collect();
            process.expect(active.len());
            if active.is_empty() {
                if self.act_at_rest(process, &sagas).await? {
                    continue;
                }
                return Ok(Exit::AtRest);
            }
            if let Some(exit) = self.act(process, &active).await? {
                return Ok(exit);
            }
            process.engine.wait(active[0].saga_id, LOOK).await?;
        }
        let sagas = self.views().await?;
        let stands = sagas.iter().filter(|saga| saga.status.is_active());
        let stands: Vec<_> = stands.map(|saga| format!("{} at `{}`", saga.status, saga.step)).collect();
        let what = format!("neither ended nor dead after {} s", LIMIT.as_secs());
        self.notes.push(Note::with(what, stands.join(", ")));
        Ok(Exit::AtRest)
    }

    /// The sagas as they are stored, in the order of their ids.
    pub(super) async fn views(&self) -> Result<Vec<SagaView>, ProofError> {
        let ids: Vec<_> = self.sagas.iter().map(|id| id.0).collect();
        let mut sagas = store::queries::sagas_with_ids(&self.pool, &ids).await?;
        sagas.sort_by_key(|saga| saga.saga_id);
        Ok(sagas)
    }

    pub(super) fn note(&mut self, what: impl Into<String>) {
        self.notes.push(Note::from(what));
    }

    /// Whether the sagas are still to be held where they are.
    pub(super) fn holds(&self) -> bool {
        self.faults.holds()
    }

    pub(super) fn release(&self) {
        set(&self.faults.released);
    }

    pub(super) fn is_released(&self) -> bool {
        is(&self.faults.released)
    }
}
