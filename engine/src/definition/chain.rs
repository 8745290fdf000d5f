//! The chain of a saga under construction, without the types of its steps: the nodes of its graph, their code, and
//! where each output is stored.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use crate::{
    definition::{
        child::{Children, Each, ErasedChildren, ItemsFrom},
        children::{ChildrenAction, Plan},
        choice::ChoiceAction,
        computed::Computed,
        erased::{CallAction, ErasedStep, TransactionAction},
        inputs::{FromOutputs, HList},
        paged::PagesFrom,
        step::{CallStep, TransactionStep, UndoCall, UndoTransaction},
        step_input::StepInput,
        wait::{AwaitedSignal, WaitAction, WaitEnd},
    },
    model::{
        child::EachEnded,
        error::GraphError,
        graph::{ChildrenNode, Node, WaitNode},
        kinds::{Placement, StepKind, UndoKind},
        open_choice::OpenChoice,
        retry::RetryPolicy,
        signal::{SignalMessage, SignalName, SignalWait},
        stored_value::StoredValue,
    },
};

/// The steps so far, with their types erased.
pub(crate) struct Chain {
    saga: &'static str,
    pub(super) nodes: Vec<Node>,
    pub(super) actions: Vec<Arc<dyn ErasedStep>>,
    /// Where the output of each step is among the stored values; place zero is the saga's input. A choice has none, and
    /// the step that ends an arm of an `either` a second one, which the other arm shares.
    pub(super) places: Vec<Vec<usize>>,
    /// Which step's output is at each place that the next step can read.
    sources: Vec<String>,
    /// The steps whose output is the last one.
    newest: Vec<usize>,
    pub(super) problem: Option<GraphError>,
}

/// A choice whose arms are being added, with what was there before.
pub(super) struct OpenArms {
    choice: OpenChoice,
    name: &'static str,
    /// How many places there were before it.
    base: usize,
    /// The steps whose output the arm `yes` gives.
    given: Vec<usize>,
}

impl Chain {
    pub(super) fn new(saga: &'static str) -> Self {
        Self {
            saga,
            nodes: Vec::new(),
            actions: Vec::new(),
            places: Vec::new(),
            sources: vec!["input".into()],
            newest: Vec::new(),
            problem: None,
        }
    }

    /// The placement of a step that is added next and is no pivot.
    pub(super) fn next_placement(&self) -> Placement {
        if self.nodes.iter().any(|node| node.placement == Placement::Pivot) {
            Placement::AfterPivot
        } else {
            Placement::BeforePivot
        }
    }

    /// Adds a transaction step that reads from the list `L`.
    pub(super) fn transaction<S: TransactionStep, L: HList, At>(
        &mut self,
        step: S,
        placement: Placement,
        entry: bool,
    ) where
        S::Input: FromOutputs<L, At>,
    {
        let reads = self.names_at(&<S::Input as FromOutputs<L, At>>::places());
        let input = StepInput::new::<L, At>(S::NAME, &reads);
        let node = Node {
            entry,
            placement,
            undo: <S::Undo as UndoTransaction<S>>::KIND,
            retry: S::RETRY,
            undo_retry: <S::Undo as UndoTransaction<S>>::RETRY,
            ..node(S::NAME, StepKind::Transaction, placement, reads)
        };
        self.push(node, Arc::new(TransactionAction::new(step, input, L::LENGTH)), L::LENGTH);
    }

    /// Adds a call step that reads from the list `L`.
    pub(super) fn call<S: CallStep, L: HList, At>(&mut self, step: S, placement: Placement)
    where
        S::Input: FromOutputs<L, At>,
    {
        let reads = self.names_at(&<S::Input as FromOutputs<L, At>>::places());
        let input = StepInput::new::<L, At>(S::NAME, &reads);
        let node = Node {
            undo: <S::Undo as UndoCall<S>>::KIND,
            retry: S::RETRY,
            undo_retry: <S::Undo as UndoCall<S>>::RETRY,
            ..node(S::NAME, StepKind::Call, placement, reads)
        };
        self.push(node, Arc::new(CallAction { step, input, output_index: L::LENGTH }), L::LENGTH);
    }

    /// Adds a wait for a time.
    pub(super) fn sleep<L: HList>(&mut self, name: &'static str, time: Duration) {
        let placement = self.next_placement();
        self.wait::<L>(name, placement, WaitEnd::After(time), Vec::new(), None);
    }

    /// Adds a wait for a time that is computed from the list `L`.
    pub(super) fn sleep_until<L: HList, X, At>(
        &mut self,
        name: &'static str,
        until: impl Fn(&X, DateTime<Utc>) -> DateTime<Utc> + Send + Sync + 'static,
    ) where
        X: FromOutputs<L, At> + 'static,
    {
        let placement = self.next_placement();
        let (end, reads) = self.computed_end::<L, X, At>(name, until);
        self.wait::<L>(name, placement, end, reads, None);
    }

    /// Adds a wait for a signal.
    pub(super) fn signal<L: HList, T: SignalMessage>(
        &mut self,
        name: &'static str,
        placement: Placement,
        wait: SignalWait<T>,
    ) {
        let signal = AwaitedSignal::of(wait.signal);
        self.wait::<L>(name, placement, WaitEnd::After(wait.longest), Vec::new(), Some(signal));
    }

    /// Adds a wait for a signal whose time-out is computed from the list `L`.
    pub(super) fn signal_until<L: HList, T: SignalMessage, X, At>(
        &mut self,
        name: &'static str,
        placement: Placement,
        signal: SignalName<T>,
        until: impl Fn(&X, DateTime<Utc>) -> DateTime<Utc> + Send + Sync + 'static,
    ) where
        X: FromOutputs<L, At> + 'static,
    {
        let (end, reads) = self.computed_end::<L, X, At>(name, until);
        self.wait::<L>(name, placement, end, reads, Some(AwaitedSignal::of(signal)));
    }

    fn computed_end<L: HList, X, At>(
        &self,
        name: &'static str,
        until: impl Fn(&X, DateTime<Utc>) -> DateTime<Utc> + Send + Sync + 'static,
    ) -> (WaitEnd, Vec<String>)
    where
        X: FromOutputs<L, At> + 'static,
    {
        let reads = self.names_at(&X::places());
        (WaitEnd::At(Computed::new(StepInput::new::<L, At>(name, &reads), until)), reads)
    }

    fn wait<L: HList>(
        &mut self,
        name: &'static str,
        placement: Placement,
        end: WaitEnd,
        reads: Vec<String>,
        signal: Option<AwaitedSignal>,
    ) {
        let longest = match &end {
            WaitEnd::After(time) => Some(*time),
            WaitEnd::At(_) => None,
        };
        let kind = if signal.is_some() { StepKind::Signal } else { StepKind::Sleep };
        let node = Node {
            wait: Some(WaitNode {
                longest,
                signal: signal.as_ref().map(|signal| signal.name.into()),
                only_new: signal.as_ref().is_some_and(|signal| signal.only_new),
                message_schema: signal.as_ref().map(|signal| (signal.schema)()),
            }),
            ..node(name, kind, placement, reads)
        };
        if let Some(problem) = signal.as_ref().and_then(|signal| self.other_message(signal)) {
            self.problem.get_or_insert(problem);
        }
        self.push(node, Arc::new(WaitAction { name, end, signal, output_index: L::LENGTH }), L::LENGTH);
    }

    /// Finds an earlier wait for the same signal with a message of another type.
    fn other_message(&self, signal: &AwaitedSignal) -> Option<GraphError> {
        let mut awaited = self.actions.iter().filter_map(|action| action.wait().and_then(WaitAction::signal));
        let differs = awaited.any(|other| other.name == signal.name && other.message != signal.message);
        differs.then(|| GraphError::TwoMessages { saga: self.saga.into(), signal: signal.name.into() })
    }

    /// Adds a step whose output is stored at this place.
    fn push(&mut self, node: Node, action: Arc<dyn ErasedStep>, place: usize) {
        if node.placement == Placement::Pivot
            && let Some(first) = self.nodes.iter().find(|earlier| earlier.placement == Placement::Pivot)
        {
            self.problem.get_or_insert(GraphError::TwoPivots {
                saga: self.saga.into(),
                first: first.name.clone(),
                second: node.name.clone(),
            });
        }
        self.name_place(place, &node.name);
        self.newest = vec![self.nodes.len()];
        self.places.push(vec![place]);
        self.nodes.push(node);
        self.actions.push(action);
    }

    fn name_place(&mut self, place: usize, source: &str) {
        self.sources.resize(place, String::new());
        self.sources.push(source.into());
    }

    /// Adds a step with children that read from the list `L`.
    pub(super) fn children<L: HList, C: Children<L, At>, At>(
        &mut self,
        name: &'static str,
        kind: StepKind,
        children: C,
        settled: bool,
    ) {
        let sources: Vec<Vec<String>> = C::places().iter().map(|places| self.names_at(places)).collect();
        let ErasedChildren(children) = children.erased(name, &sources);
        let definitions = children.iter().map(|child| child.definition.into()).collect();
        let node = self.node_with_children(
            name,
            kind,
            &sources.concat(),
            ChildrenNode { definitions, at_most: None, settled },
        );
        let read = if settled { decodes::<C::Ends> } else { decodes::<C::Results> };
        let action = ChildrenAction {
            name,
            at_most: children.len(),
            plan: Plan::Fixed(children),
            settled,
            output_index: L::LENGTH,
            output: if settled { C::ends } else { C::results },
            read_output: read,
        };
        self.push(node, Arc::new(action), L::LENGTH);
    }

    /// Adds a step with a child for each of the items that are computed from the list `L`.
    pub(super) fn for_each<L: HList, X, At>(&mut self, name: &'static str, each: Each<X>)
    where
        X: FromOutputs<L, At> + 'static,
    {
        let Each { definition, items, at_most, settled } = each;
        let reads = self.names_at(&X::places());
        let input = StepInput::new::<L, At>(name, &reads);
        let children = ChildrenNode { definitions: vec![definition.into()], at_most: Some(at_most), settled };
        let node = self.node_with_children(name, StepKind::ForEach, &reads, children);
        let plan = match items {
            ItemsFrom::List(items) => {
                let items = move |read: &X, wanted: Vec<usize>| items(read, &wanted);
                Plan::Each(Computed::new(input, items))
            }
            ItemsFrom::Pages(pages) => Plan::Pages(Box::new(PagesFrom { definition, input, pages })),
        };
        let action = ChildrenAction {
            name,
            at_most: usize::try_from(at_most).unwrap_or(usize::MAX),
            plan,
            settled,
            output_index: L::LENGTH,
            output: |_| Err("its output is counts".into()),
            read_output: decodes::<EachEnded>,
        };
        self.push(node, Arc::new(action), L::LENGTH);
    }

    fn node_with_children(
        &self,
        name: &'static str,
        kind: StepKind,
        reads: &[String],
        children: ChildrenNode,
    ) -> Node {
        let placement = self.next_placement();
        let undo = match placement {
            Placement::BeforePivot => UndoKind::HasUndo,
            Placement::Pivot | Placement::AfterPivot => UndoKind::ForwardOnly,
        };
        let mut seen = std::collections::BTreeSet::new();
        let reads: Vec<String> = reads.iter().filter(|read| seen.insert((*read).clone())).cloned().collect();
        Node { undo, children: Some(children), ..node(name, kind, placement, reads) }
    }

    /// Adds a choice whose predicate reads from the list `L`. What is added next is its arm `yes`.
    pub(super) fn choose<L: HList, X, At>(
        &mut self,
        name: &'static str,
        predicate: impl Fn(&X) -> bool + Send + Sync + 'static,
    ) -> OpenArms
    where
        X: FromOutputs<L, At> + 'static,
    {
        let reads = self.names_at(&X::places());
        let input = StepInput::new::<L, At>(name, &reads);
        let placement = self.next_placement();
        let predicate = Computed::new(input, move |read: &X, ()| predicate(read));
        self.places.push(Vec::new());
        self.actions.push(Arc::new(ChoiceAction { name, predicate }));
        let choice = OpenChoice::begin(&mut self.nodes, node(name, StepKind::Choice, placement, reads));
        self.newest.clear();
        OpenArms { choice, name, base: L::LENGTH, given: Vec::new() }
    }

    /// Ends a choice whose arm `no` has no steps. The outputs of the arm stay readable.
    pub(super) fn end_when(&mut self, mut arms: OpenArms) {
        if !arms.choice.has_steps(&self.nodes) {
            let (saga, choice) = (self.saga.into(), arms.name.into());
            self.problem.get_or_insert(GraphError::EmptyArm { saga, choice });
        }
        arms.choice.turn(&self.nodes);
        arms.choice.close(&mut self.nodes);
        self.newest.clear();
    }

    /// Ends the arm `yes`. What is added next is the arm `no`.
    pub(super) fn turn(&mut self, arms: &mut OpenArms) {
        arms.choice.turn(&self.nodes);
        arms.given = std::mem::take(&mut self.newest);
        self.sources.truncate(arms.base);
    }

    /// Ends the arm `no`. The last output of whichever arm a saga takes is stored at this place, too.
    pub(super) fn end_either(&mut self, arms: OpenArms, place: usize) {
        arms.choice.close(&mut self.nodes);
        self.newest.extend(arms.given);
        for giver in &self.newest {
            if !self.places[*giver].contains(&place) {
                self.places[*giver].push(place);
            }
        }
        self.sources.truncate(arms.base);
        self.name_place(place, arms.name);
    }

    /// The names of the steps whose outputs are at these places.
    pub(super) fn names_at(&self, places: &[usize]) -> Vec<String> {
        places.iter().map(|place| self.sources.get(*place).cloned().unwrap_or_default()).collect()
    }
}

fn decodes<T: DeserializeOwned>(stored: &StoredValue) -> Result<(), serde_json::Error> {
    stored.decode::<T>().map(drop)
}

/// A step without an undo; the behaviour of a wait or a choice.
fn node(name: &'static str, kind: StepKind, placement: Placement, reads: Vec<String>) -> Node {
    Node {
        name: name.into(),
        kind,
        entry: false,
        placement,
        undo: UndoKind::NothingToUndo,
        after: Vec::new(),
        reads,
        retry: RetryPolicy::TRANSACTION,
        undo_retry: RetryPolicy::UNDO,
        wait: None,
        children: None,
        choice: None,
        arm: None,
        next: None,
    }
}
