//! The proof of a saga: what is to be proved, and the order of its cases.
//!
//! A case is run on a database of its own if the proof has a factory for them (`databases`): a process begins a batch
//! of sagas (`process`), the fault of the case strikes them (`case_faults`, `child_faults`), what is outside acts on
//! them (`outside`, `waits`), processes replace each other until all sagas are at rest (`case_run`), and then it is
//! looked at what has become of them (`verdict`).

mod case;
mod case_faults;
mod case_run;
mod child_faults;
mod databases;
mod outside;
mod plan;
mod process;
mod report;
mod setup;
mod verdict;
mod waits;

use std::{collections::BTreeSet, fmt, pin::Pin, sync::Arc};

use crate::{
    builder::EngineBuilder,
    definition::{new_saga::NewSaga, saga::Definition},
    engine::Engine,
    model::{
        graph::{Graph, Node},
        ids::SagaId,
        signal::Signal,
    },
    support::faults::DisabledGuard,
    testing::proof::{
        child_faults::Deaths,
        plan::{Scope, cases, changes},
        report::Note,
        setup::{Setup, Version},
    },
};

pub use case::{Case, Kind, Struck};
pub use databases::{CaseDatabase, Databases};
pub use report::{ProofError, Report, Run, Violation};

/// How many sagas a batch has unless it is set.
const BATCH: usize = 3;

type NewSagas = Box<dyn Fn() -> NewSaga + Send + Sync>;
type NextSignal = Box<dyn Fn() -> Signal + Send + Sync>;
type AllDefinitions = Box<dyn Fn() -> Vec<Definition> + Send + Sync>;
type IsWanted = Box<dyn Fn(&Case) -> bool + Send + Sync>;
type Check = Arc<dyn Fn(Run) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// A start, and what is particular to its sagas.
struct Start {
    sagas: NewSagas,
    /// The steps whose waits time out, although there is a signal.
    timed_out: BTreeSet<String>,
}

impl Start {
    fn new(sagas: impl Fn() -> NewSaga + Send + Sync + 'static) -> Self {
        Self { sagas: Box::new(sagas), timed_out: BTreeSet::new() }
    }
}

/// A saga to be proved.
pub struct Proof {
    saga: String,
    databases: Box<dyn Databases>,
    definitions: AllDefinitions,
    earlier: Option<AllDefinitions>,
    starts: Vec<Start>,
    noes: Vec<(String, Start)>,
    signals: Vec<NextSignal>,
    unchanged: Vec<String>,
    batch: usize,
    check: Option<Check>,
    only: Option<IsWanted>,
    disabled_guard: Option<DisabledGuard>,
}

impl Proof {
    /// Prepares the proof of the saga named `saga`. The cases run on `databases`: a pool, or a function that gives each
    /// case a [fresh one](Databases). `definitions` builds the saga together with all sagas that it starts, once for
    /// each process.
    ///
    /// `start` returns a start that completes if no fault is injected, and each time takes the same arms. It is asked
    /// for each saga of a [batch](Proof::batch), and each has to be able to complete beside the others: it is for
    /// another order, another customer, another key.
    pub fn of(
        saga: &str,
        databases: impl Databases,
        definitions: impl Fn() -> Vec<Definition> + Send + Sync + 'static,
        start: impl Fn() -> NewSaga + Send + Sync + 'static,
    ) -> Self {
        Self {
            saga: saga.into(),
            databases: Box::new(databases),
            definitions: Box::new(definitions),
            earlier: None,
            starts: vec![Start::new(start)],
            noes: Vec::new(),
            signals: Vec::new(),
            unchanged: Vec::new(),
            batch: BATCH,
            check: None,
            only: None,
            disabled_guard: None,
        }
    }

    /// Sets how many sagas each case has, which are started, run and undone together; three by default. With more than
    /// one, some faults also strike one saga of the batch while the others complete.
    pub fn batch(mut self, sagas: usize) -> Self {
        self.batch = sagas.max(1);
        self
    }

    /// Adds another start, for arms of choices that the first one does not take. Every step of the graph has to be on
    /// the way of some start.
    pub fn also(mut self, start: impl Fn() -> NewSaga + Send + Sync + 'static) -> Self {
        self.starts.push(Start::new(start));
        self
    }

    /// Lets the wait at this step time out for the sagas of the start that was added last, although there is a signal of
    /// its name: for what follows only then, such as a reminder and a second wait for the same signal.
    pub fn times_out(mut self, step: &str) -> Self {
        if let Some(start) = self.starts.last_mut() {
            start.timed_out.insert(step.into());
        }
        self
    }

    /// Adds a start to which this step says no, and cases for it: it must leave nothing behind. If all sagas of a batch
    /// get the no, every row that the step wrote is a violation, one that it wrote as it was, too; then one gets it
    /// while the others go on. A no that depends on the step's own data can't be injected, so the caller gives one.
    pub fn says_no(mut self, step: &str, start: impl Fn() -> NewSaga + Send + Sync + 'static) -> Self {
        self.noes.push((step.into(), Start::new(start)));
        self
    }

    /// Gives the message for the steps that wait for a signal of this name. In the cases that say so the message does
    /// not come, comes early, late, twice, or when the time is over, too.
    pub fn signal(mut self, signal: impl Fn() -> Signal + Send + Sync + 'static) -> Self {
        self.signals.push(Box::new(signal));
        self
    }

    /// Adds a query whose rows must be the same, in any order, before a case begins and after all of its sagas have
    /// compensated, such as `select sku, available from shop.stock`. A row that is there only because a saga was tried,
    /// like a rejected order, does not belong in it.
    pub fn unchanged(mut self, query: impl Into<String>) -> Self {
        self.unchanged.push(query.into());
        self
    }

    /// Adds the definitions before a change, and cases in which the sagas begin with them. While they are at a step,
    /// their process is replaced by one that has the new graph and knows the earlier one ([`EngineBuilder::also`]):
    /// they go on, or are undone. Or by one that does not know it: they are left as they are, and go on later.
    ///
    /// The sagas begin with the first start, so their input has to fit both. Two graphs with the same hash can continue
    /// each other's sagas, and then the new code alone has to.
    pub fn earlier(mut self, definitions: impl Fn() -> Vec<Definition> + Send + Sync + 'static) -> Self {
        self.earlier = Some(Box::new(definitions));
        self
    }

    /// Adds a check that runs for each saga of each case, on the database that it ran on.
    pub fn check<F>(mut self, check: impl Fn(Run) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.check = Some(Arc::new(move |run| Box::pin(check(run))));
        self
    }

    /// Runs only the cases that `is_wanted` wants, and those without a fault: to look at one again.
    pub fn only(mut self, is_wanted: impl Fn(&Case) -> bool + Send + Sync + 'static) -> Self {
        self.only = Some(Box::new(is_wanted));
        self
    }

    /// Disables a guard of the engine in every case, for tests of the proof itself: its checks have to notice.
    pub fn without(mut self, guard: DisabledGuard) -> Self {
        self.disabled_guard = Some(guard);
        self
    }

    /// Runs all cases.
    ///
    /// # Errors
    /// When a case can't be run at all; what does not hold is in the report.
    pub async fn run(self) -> Result<Report, ProofError> {
        let definitions = (self.definitions)();
        let graph = graph_of(&definitions, &self.saga)?;
        let deaths = |node: &Node| Deaths::of(&definitions, node);
        let mut report = Report::default();
        self.note_missing_signals(&mut report, graph);
        let mut covered = vec![false; graph.steps.len()];
        let mut path = Vec::new();
        for start in &self.starts {
            let nothing = Case::of("", Kind::Nothing);
            path = self.prove(&mut report, self.setup(graph, &path, nothing, start)).await?;
            let new: Vec<usize> = path.iter().copied().filter(|at| !covered[*at]).collect();
            let has_signal = |name: &str| self.signals.iter().any(|signal| signal().name == name);
            let scope = Scope { graph, path: &path, batch: self.batch, has_signal: &has_signal };
            for case in self.wanted(cases(scope, &new, &deaths)) {
                self.prove(&mut report, self.setup(graph, &path, case, start)).await?;
            }
            for at in new {
                covered[at] = true;
            }
        }
        for (node, _) in graph.steps.iter().zip(covered).filter(|(_, covered)| !covered) {
            let what = format!("no start comes to `{}`: add one with `also`", node.name);
            report.find(&Case::of(&node.name, Kind::Nothing), vec![Note::from(what)]);
        }
        self.prove_noes(&mut report, graph).await?;
        if let Some(earlier) = &self.earlier {
            let earlier = earlier();
            self.prove_changes(&mut report, graph_of(&earlier, &self.saga)?, graph).await?;
        }
        Ok(report)
    }

    /// Without its message every wait would only time out.
    fn note_missing_signals(&self, report: &mut Report, graph: &Graph) {
        let given: BTreeSet<String> = self.signals.iter().map(|signal| signal().name.into_owned()).collect();
        for node in &graph.steps {
            let Some(name) = node.signal().filter(|name| !given.contains(*name)) else { continue };
            let what = format!("`{}` waits for `{name}`: add its message with `signal`", node.name);
            report.find(&Case::of(&node.name, Kind::Nothing), vec![Note::from(what)]);
        }
    }

    async fn prove_noes(&self, report: &mut Report, graph: &Graph) -> Result<(), ProofError> {
        for (step, start) in &self.noes {
            let all = Case::of(step, Kind::ActionSaysNo);
            let one = (self.batch > 1).then(|| Case { struck: Struck::One, ..all.clone() });
            for case in self.wanted([all].into_iter().chain(one)) {
                self.prove(report, self.setup(graph, &[], case, start)).await?;
            }
        }
        Ok(())
    }

    async fn prove_changes(
        &self,
        report: &mut Report,
        earlier: &Graph,
        newest: &Graph,
    ) -> Result<(), ProofError> {
        let start = &self.starts[0];
        let setup = self.setup(earlier, &[], Case::of("", Kind::Nothing), start);
        let path = self.prove(report, Setup { first: Version::Earlier, ..setup }).await?;
        for case in self.wanted(changes(earlier, &path, earlier.hash != newest.hash)) {
            let setup = self.setup(earlier, &path, case, start);
            self.prove(report, Setup { first: Version::Earlier, ..setup }).await?;
        }
        Ok(())
    }

    fn wanted(&self, cases: impl IntoIterator<Item = Case>) -> Vec<Case> {
        let is_wanted = |case: &Case| self.only.as_ref().is_none_or(|only| only(case));
        cases.into_iter().filter(is_wanted).collect()
    }

    /// A case with its sagas. If it strikes one of them by its start, the others get the first start of the proof.
    fn setup<'a>(&'a self, graph: &'a Graph, path: &'a [usize], case: Case, start: &'a Start) -> Setup<'a> {
        let middle = (self.batch - 1) / 2;
        let is_struck = |nth: usize| case.struck == Struck::All || nth == middle;
        let is_no = case.kind == Kind::ActionSaysNo;
        let mut sagas: Vec<(NewSaga, bool)> = (0..self.batch)
            .map(|nth| {
                let by_start = if is_no && !is_struck(nth) { &self.starts[0] } else { start };
                ((by_start.sagas)(), is_struck(nth))
            })
            .collect();
        if !is_no && case.struck == Struck::One {
            // A batch is in the order of the ids.
            sagas.sort_by_key(|(new, _)| new.saga_id());
            for (nth, (_, struck)) in sagas.iter_mut().enumerate() {
                *struck = nth == middle;
            }
        }
        let struck: BTreeSet<SagaId> =
            sagas.iter().filter(|(_, struck)| *struck).map(|(new, _)| new.saga_id()).collect();
        let sagas = sagas.into_iter().map(|(new, _)| new).collect();
        Setup { graph, path, case, sagas, struck, timed_out: &start.timed_out, first: Version::Both }
    }

    /// Builds the engine of a process that knows these graphs.
    fn builder(&self, pool: &sqlx::PgPool, version: Version) -> EngineBuilder {
        let earlier = self.earlier.as_ref().map(|earlier| earlier()).unwrap_or_default();
        let (registered, also) = match version {
            Version::Earlier => (earlier, Vec::new()),
            Version::Newest => ((self.definitions)(), Vec::new()),
            Version::Both => {
                let newest = (self.definitions)();
                let other = |earlier: &Definition| {
                    !newest.iter().any(|newest| newest.graph().hash == earlier.graph().hash)
                };
                let also: Vec<Definition> = earlier.into_iter().filter(other).collect();
                (newest, also)
            }
        };
        let names: BTreeSet<String> =
            registered.iter().map(|definition| definition.graph().name.clone()).collect();
        let builder = registered.into_iter().fold(Engine::builder(pool.clone()), EngineBuilder::register);
        also.into_iter().fold(builder, |builder, earlier| {
            // A saga that the change has removed is not started any more, but has to go on.
            if names.contains(&earlier.graph().name) {
                builder.also(earlier)
            } else {
                builder.register(earlier)
            }
        })
    }
}

fn graph_of<'a>(definitions: &'a [Definition], saga: &str) -> Result<&'a Graph, ProofError> {
    let mut graphs = definitions.iter().map(Definition::graph);
    graphs.find(|graph| graph.name == saga).ok_or_else(|| ProofError::UnknownSaga(saga.into()))
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("saga", &self.saga).finish_non_exhaustive()
    }
}
