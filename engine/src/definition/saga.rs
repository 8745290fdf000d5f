//! Builds sagas: a typed chain of steps becomes a checked definition.

use std::{collections::HashMap, marker::PhantomData, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    definition::{
        chain::Chain,
        erased::ErasedStep,
        input_check::{InputCheck, StoredInputCheck, check_stored_input},
        inputs::{FromOutputs, HCons, HList, HNil},
        label::Of,
        observer::{ErasedStatusObserver, StatusObserver},
        saga_name::SagaName,
        saga_result::SagaResult,
        step::{CallStep, TransactionStep},
        wait::{AwaitedSignal, WaitAction},
    },
    model::{
        error::{GraphError, StartError},
        graph::Graph,
        ids::SagaId,
        kinds::{Placement, UndoKind},
        outcome::Failure,
        retry::RetryPolicy,
        status::Direction,
        storable::storable_text,
        stored_value::{StoredValue, StoredValues},
    },
};

/// A saga under construction: `I` is its input, `L` the list of types that its next step can read, `O` the type of the result
/// that it has still to be given, with [`Saga::returns_output`] or [`Saga::returns`].
///
/// ```
/// use engine::{NothingToUndo, Outcomes, Outcome, Saga, SagaName, Batch, StepError, TransactionStep, Tx};
///
/// #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// struct Greeting { name: String }
///
/// struct Greet;
/// impl TransactionStep for Greet {
///     const NAME: &'static str = "greet";
///     type Input = Greeting;
///     type Output = String;
///     type Undo = NothingToUndo;
///     async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Greeting>) -> Result<Outcomes<String>, StepError> {
///         Ok(batch.decide(|item| Outcome::Done(format!("Hello, {}", item.input.name))))
///     }
/// }
///
/// const WELCOME: SagaName<Greeting> = SagaName::new("welcome");
/// let welcome = Saga::named(WELCOME).then(Greet).build()?;
/// assert_eq!(welcome.graph().steps[0].name, "greet");
/// # Ok::<(), engine::GraphError>(())
/// ```
///
/// A step that reads a type that no earlier step produces does not compile:
///
/// ```compile_fail
/// # use engine::*;
/// # #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// # struct Greeting { name: String }
/// struct NeedsNumber;
/// impl TransactionStep for NeedsNumber {
///     const NAME: &'static str = "needs-number";
///     type Input = u64; // neither the saga's input nor any step's output
///     type Output = String;
///     type Undo = NothingToUndo;
///     async fn run(&self, _: &mut Tx<'_>, batch: &Batch<u64>) -> Result<Outcomes<String>, StepError> {
///         Ok(batch.decide(|item| Outcome::Done(item.input.to_string())))
///     }
/// }
/// let saga = Saga::named(SagaName::<Greeting>::new("broken")).then(NeedsNumber).build();
/// ```
pub struct Saga<I, L, O = ()> {
    name: &'static str,
    revision: u32,
    queue: String,
    deadline: Option<Duration>,
    pub(super) chain: Chain,
    observer: Option<Arc<dyn ErasedStatusObserver>>,
    check: Option<Box<InputCheck<I>>>,
    pub(super) result: Option<SagaResult>,
    types: PhantomData<fn(I, L) -> O>,
}

impl<I, O> Saga<I, HCons<I, HNil>, O>
where
    I: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    /// Starts building a saga.
    pub fn named(name: SagaName<I, O>) -> Self {
        Self {
            name: name.name,
            revision: 0,
            queue: "default".into(),
            deadline: None,
            chain: Chain::new(name.name),
            observer: None,
            check: None,
            result: None,
            types: PhantomData,
        }
    }

    /// Sets the revision, zero by default. Raise it when sagas in progress can't go on with the new code although the names
    /// and kinds of the steps are the same, for example because a step now writes its output in another form.
    pub fn revision(mut self, revision: u32) -> Self {
        self.revision = revision;
        self
    }

    /// Adds the first step as an entry step: it runs in the commit that starts the saga. If it fails, the start is
    /// refused and nothing is stored; if it is done, its effect is visible to the caller as soon as the start returns.
    pub fn entry<S: TransactionStep, At>(mut self, step: S) -> Saga<I, HCons<S::Output, HCons<I, HNil>>, O>
    where
        S::Input: FromOutputs<HCons<I, HNil>, At>,
    {
        self.chain.transaction::<S, HCons<I, HNil>, At>(step, Placement::BeforePivot, true);
        self.retyped()
    }

    /// Adds the first step as both entry step and pivot: once started, the saga only goes forward.
    pub fn entry_pivot<S: TransactionStep, At>(
        mut self,
        step: S,
    ) -> Saga<I, HCons<S::Output, HCons<I, HNil>>, O>
    where
        S::Input: FromOutputs<HCons<I, HNil>, At>,
    {
        self.chain.transaction::<S, HCons<I, HNil>, At>(step, Placement::Pivot, true);
        self.retyped()
    }
}

impl<I, L: HList, O> Saga<I, L, O>
where
    I: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    /// Sets the queue of the saga, so that it and the sagas of other queues don't slow each other down.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }

    /// Compensates the saga if it has not passed its pivot this long after its start.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Calls `observer` when a saga ends, dies or is retried, in the same transaction.
    pub fn observed_by(mut self, watch: impl StatusObserver) -> Self {
        self.observer = Some(Arc::new(watch));
        self
    }

    /// Checks the input of every start, typed or not, before anything is stored: what `check` finds wrong refuses the
    /// start with [`StartError::Refused`], and its steps need not look again.
    pub fn check_input(mut self, check: impl Fn(&I) -> Result<(), Failure> + Send + Sync + 'static) -> Self {
        self.check = Some(Box::new(check));
        self
    }

    /// Adds a transaction step.
    pub fn then<S: TransactionStep, At>(mut self, step: S) -> Saga<I, HCons<S::Output, L>, O>
    where
        S::Input: FromOutputs<L, At>,
    {
        let placement = self.chain.next_placement();
        self.chain.transaction::<S, L, At>(step, placement, false);
        self.retyped()
    }

    /// Adds a call step.
    pub fn then_call<S: CallStep, At>(mut self, step: S) -> Saga<I, HCons<S::Output, L>, O>
    where
        S::Input: FromOutputs<L, At>,
    {
        let placement = self.chain.next_placement();
        self.chain.call::<S, L, At>(step, placement);
        self.retyped()
    }

    /// Adds a transaction step as the pivot, the point of no return: once it is done, the saga only goes forward.
    pub fn pivot<S: TransactionStep, At>(mut self, step: S) -> Saga<I, HCons<S::Output, L>, O>
    where
        S::Input: FromOutputs<L, At>,
    {
        self.chain.transaction::<S, L, At>(step, Placement::Pivot, false);
        self.retyped()
    }

    /// Adds a call step as the pivot. While the call is in doubt, the saga can't be cancelled.
    pub fn pivot_call<S: CallStep, At>(mut self, step: S) -> Saga<I, HCons<S::Output, L>, O>
    where
        S::Input: FromOutputs<L, At>,
    {
        self.chain.call::<S, L, At>(step, Placement::Pivot);
        self.retyped()
    }
}

impl<I, L: HList> Saga<I, L>
where
    I: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    /// Checks the graph and returns a definition that can be registered.
    ///
    /// # Errors
    /// When the graph is wrong; the message says what to change.
    pub fn build(self) -> Result<Definition, GraphError> {
        let Chain { nodes, actions, places, problem, .. } = self.chain;
        if let Some(problem) = problem {
            return Err(problem);
        }
        let check = self.check;
        let graph = Graph::new(self.name, self.revision, &self.queue, self.deadline, nodes)?;
        let positions = graph.steps.iter().enumerate().map(|(at, node)| (node.name.clone(), at)).collect();
        Ok(Definition {
            input_schema: schemars::schema_for!(I).to_value(),
            input_check: Box::new(move |input, typed| check_stored_input(input, typed, check.as_deref())),
            graph,
            actions,
            places,
            positions,
            read_input: |input| input.decode::<I>().map(drop).map_err(|error| error.to_string()),
            observer: self.observer,
            result: self.result,
        })
    }
}

impl<I, L, O> Saga<I, L, O> {
    /// The same saga with another list of what its next step can read, or another result that is still to be given.
    pub(super) fn retyped<M, P>(self) -> Saga<I, M, P> {
        Saga {
            name: self.name,
            revision: self.revision,
            queue: self.queue,
            deadline: self.deadline,
            chain: self.chain,
            observer: self.observer,
            check: self.check,
            result: self.result,
            types: PhantomData,
        }
    }
}

impl<I, T, L, O> Saga<I, HCons<T, L>, O> {
    /// Labels the output of the step that was added last, or the saga's input before any was added: later steps read it
    /// as [`Of<Label, T>`](Of), and no longer as `T`. The graph and its hash stay the same.
    pub fn labelled<Label>(self) -> Saga<I, HCons<Of<Label, T>, L>, O> {
        self.retyped()
    }
}

impl<I, L, O> std::fmt::Debug for Saga<I, L, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saga")
            .field("name", &self.name)
            .field("steps", &self.chain.nodes)
            .finish_non_exhaustive()
    }
}

/// A checked saga: its graph and the code of its steps.
pub struct Definition {
    pub(crate) graph: Graph,
    input_schema: serde_json::Value,
    input_check: Box<StoredInputCheck>,
    read_input: fn(&StoredValue) -> Result<(), String>,
    pub(crate) actions: Vec<Arc<dyn ErasedStep>>,
    places: Vec<Vec<usize>>,
    pub(crate) positions: HashMap<String, usize>,
    pub(crate) observer: Option<Arc<dyn ErasedStatusObserver>>,
    result: Option<SagaResult>,
}

impl Definition {
    /// The graph of the steps, which was checked when the definition was built.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The JSON Schema (draft 2020-12) of the saga's input.
    pub fn input_schema(&self) -> &serde_json::Value {
        &self.input_schema
    }

    /// Replaces the retry policy of a step's action or undo, for policies that come from the configuration.
    ///
    /// # Errors
    /// When there is no such step, it has no undo to retry, or the policy is wrong.
    pub fn set_policy(
        &mut self,
        step: &str,
        direction: Direction,
        policy: RetryPolicy,
    ) -> Result<(), String> {
        let saga = &self.graph.name;
        let at = self.graph.position(step).ok_or_else(|| format!("saga `{saga}` has no step `{step}`"))?;
        let node = &mut self.graph.steps[at];
        if !node.kind.has_action() && !node.kind.has_children() {
            let does = if node.choice.is_some() { "is a choice" } else { "waits" };
            return Err(format!("step `{step}` of saga `{saga}` {does}, and is not tried again"));
        }
        policy.check(node.kind)?;
        match direction {
            Direction::Action => node.retry = policy,
            Direction::Undo if node.undo == UndoKind::HasUndo => node.undo_retry = policy,
            Direction::Undo => return Err(format!("step `{step}` of saga `{saga}` has no undo")),
        }
        Ok(())
    }

    /// Sets the output of a step among the stored values of a saga.
    pub(crate) fn set_output(
        &self,
        values: &mut StoredValues,
        step_index: usize,
        output: Option<&StoredValue>,
    ) {
        for place in self.places.get(step_index).into_iter().flatten() {
            values.set(*place, output.cloned());
        }
    }

    /// The signal of this name for which a step waits.
    pub(crate) fn awaited_signal(&self, name: &str) -> Option<&AwaitedSignal> {
        let mut awaited = self.actions.iter().filter_map(|action| action.wait().and_then(WaitAction::signal));
        awaited.find(|signal| signal.name == name)
    }

    /// The result of a saga that has completed with these values; `None` if its definition gives none.
    ///
    /// # Errors
    /// That it completed without one, and why.
    pub(crate) fn result(
        &self,
        saga_id: SagaId,
        values: &StoredValues,
        limit: usize,
    ) -> Result<Option<StoredValue>, String> {
        let Some(result) = &self.result else { return Ok(None) };
        result.of(values, limit).map(Some).map_err(|reason| {
            tracing::error!(saga.id = %saga_id, error = %reason, "a saga completed without its result");
            storable_text(format!("it completed without its result: {reason}"))
        })
    }

    /// Reads a stored input.
    pub(crate) fn read_input(&self, values: &StoredValues) -> Result<(), String> {
        let Some(input) = values.input() else { return Ok(()) };
        (self.read_input)(input).map_err(|error| format!("the stored input can't be read: {error}"))
    }

    /// Checks the input of a start: that it is of the definition's type, unless it is `typed`, and what the definition
    /// demands beyond that.
    pub(crate) fn check_input(&self, input: &StoredValue, typed: bool) -> Result<(), StartError> {
        (self.input_check)(input, typed)
    }
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Definition").field("graph", &self.graph).finish_non_exhaustive()
    }
}
