use proptest::prelude::*;

use super::*;
use crate::model::{
    graph::{ChildrenNode, Node},
    kinds::UndoKind,
    sketch::{self as sketches, Sketch},
};

fn node(at: usize, kind: StepKind, placement: Placement, undo: UndoKind) -> Node {
    Node { placement, undo, ..sketches::node(&format!("step-{at}"), kind) }
}

/// A part of any graph.
#[derive(Clone, Debug)]
enum Tree {
    Step(StepKind, bool),
    Choice(Vec<Tree>, Vec<Tree>),
}

fn trees() -> impl Strategy<Value = Tree> {
    let kinds: Vec<_> = StepKind::ALL.iter().copied().filter(|kind| *kind != StepKind::Choice).collect();
    let step =
        (prop::sample::select(kinds), any::<bool>()).prop_map(|(kind, undone)| Tree::Step(kind, undone));
    step.prop_recursive(2, 10, 3, |inner| {
        let arm = |least| prop::collection::vec(inner.clone(), least..3);
        (arm(1), arm(0)).prop_map(|(yes, no)| Tree::Choice(yes, no))
    })
}

/// The part of a graph at this placement; `names` counts the steps.
fn sketch(tree: Tree, placement: Placement, names: &mut usize) -> Sketch {
    let at = *names;
    *names += 1;
    let mut arm = |trees: Vec<Tree>| trees.into_iter().map(|tree| sketch(tree, placement, names)).collect();
    match tree {
        Tree::Step(kind, undone) => {
            let undo = match placement {
                Placement::Pivot | Placement::AfterPivot => UndoKind::ForwardOnly,
                // Children are always undone.
                Placement::BeforePivot if kind.has_children() || undone && !kind.is_wait() => {
                    UndoKind::HasUndo
                }
                Placement::BeforePivot => UndoKind::NothingToUndo,
            };
            Sketch::Node(node(at, kind, placement, undo))
        }
        Tree::Choice(yes, no) => {
            let choice = node(at, StepKind::Choice, placement, UndoKind::NothingToUndo);
            let yes = arm(yes);
            Sketch::Choice(choice, yes, arm(no))
        }
    }
}

/// Any legal graph with one to six steps or choices in a row, with or without a pivot.
pub(crate) fn graphs() -> impl Strategy<Value = Graph> {
    (prop::collection::vec(trees(), 1..7), prop::option::of(0usize..7)).prop_map(|(trees, pivot)| {
        // No arm has a pivot, and no choice is one.
        let pivot = pivot.filter(|at| matches!(trees.get(*at), Some(Tree::Step(..))));
        let mut names = 0;
        let sketch = trees.into_iter().enumerate().map(|(at, tree)| {
            let placement = match pivot {
                Some(pivot) if at == pivot => Placement::Pivot,
                Some(pivot) if at > pivot => Placement::AfterPivot,
                Some(_) | None => Placement::BeforePivot,
            };
            sketch(tree, placement, &mut names)
        });
        sketches::graph(sketch.collect())
    })
}

pub(crate) fn events() -> impl Strategy<Value = Event> {
    let failure = || Failure::new("no", "no");
    prop_oneof![
        6 => Just(Event::Done),
        6 => prop::sample::select(Arm::ALL).prop_map(Event::Chosen),
        2 => Just(Event::Retry(Counts::Attempt)),
        1 => Just(Event::Retry(Counts::Snooze)),
        1 => Just(Event::Lost),
        1 => Just(Event::Exhausted(failure())),
        1 => Just(Event::Failed(failure())),
        1 => Just(Event::Cancel { actor: "a".into(), reason: "r".into(), origin: CancelOrigin::Requested }),
        1 => Just(Event::DeadlinePassed),
        1 => Just(Event::DeadLettered),
        2 => Just(Event::Retried),
        1 => Just(Event::Discarded),
        1 => Just(Event::Released),
        2 => Just(Event::Waiting),
        4 => Just(Event::Opened),
        1 => Just(parent_compensates()),
    ]
}

/// What really happened to each step, derived from the accepted events.
#[derive(Default)]
struct World {
    done: Vec<usize>,
    chosen: Arms,
    maybe: Vec<usize>,
    undone: Vec<usize>,
}

proptest! {
    #[test]
    fn after_any_events_exactly_the_steps_that_happened_or_may_have_are_undone_in_reverse_order(
        graph in graphs(), script in prop::collection::vec(events(), 0..60),
    ) {
        let mut state = State::initial();
        let mut world = World::default();
        for event in script {
            if state.status.is_active() && state.attempt == 0 {
                state = transition(&graph, &state, &Event::AttemptStarted).unwrap().0;
            }
            let before = state.clone();
            // A dead saga is discarded as `discard` decides, without force.
            let event = match (event, discard(&graph, &state)) {
                (Event::Discarded, DiscardEffect::Compensate) => cancel(),
                (Event::Discarded, DiscardEffect::Abandon) => continue,
                (event, _) => event,
            };
            let Ok((after, _)) = transition(&graph, &state, &event) else { continue };
            let call = graph.steps[before.step_index].kind == StepKind::Call;
            match (before.direction, &event) {
                (Direction::Action, Event::Done) => world.done.push(before.step_index),
                (Direction::Undo, Event::Done) => world.undone.push(before.step_index),
                (Direction::Action, Event::Opened) => {
                    prop_assert!(graph.steps[before.step_index].kind.has_children());
                    world.maybe.push(before.step_index);
                }
                (Direction::Action, Event::Chosen(arm)) => {
                    prop_assert_eq!(graph.steps[before.step_index].kind, StepKind::Choice);
                    world.done.push(before.step_index);
                    world.chosen = world.chosen.and(*arm);
                }
                (Direction::Action, Event::Retry(Counts::Attempt) | Event::Lost | Event::Exhausted(_)) if call => {
                    world.maybe.push(before.step_index);
                }
                _ => {}
            }
            if event == Event::Waiting {
                let kind = graph.steps[before.step_index].kind;
                let waits = kind.has_children() || kind.is_wait() && before.direction == Direction::Action;
                prop_assert!(waits, "only a wait waits, and who has children");
                prop_assert_eq!(&after, &State { attempt: 0, lost_attempts: 0, ..before.clone() });
            }
            prop_assert_eq!(&after.arms, &world.chosen, "the arms that were taken are kept");
            if before.status == Status::Compensating {
                prop_assert_ne!(after.status, Status::Running, "a compensating saga never goes forward again");
            }
            if event == Event::Discarded {
                prop_assert!(!can_compensate(&graph, &after), "what can be undone is not left standing");
                let pivot = graph.pivot().expect("only a pivot keeps a saga from compensating");
                prop_assert!(after.step_index >= pivot && world.undone.is_empty());
                return Ok(());
            }
            prop_assert!(after.cause.is_some() == (after.direction == Direction::Undo || after.status == Status::Compensated));
            state = after;
        }
        let order: Vec<_> = world.undone.clone();
        prop_assert!(order.windows(2).all(|pair| pair[0] > pair[1]), "undone in reverse order, each once: {:?}", order);
        for at in &world.undone {
            prop_assert!(world.done.contains(at) || world.maybe.contains(at), "step {} was never begun", at);
        }
        if state.status == Status::Completed {
            prop_assert!(world.undone.is_empty());
            let path: Vec<_> = graph.path(&world.chosen, usize::MAX).collect();
            prop_assert_eq!(&world.done, &path);
        }
        if state.status == Status::Compensated {
            for (at, node) in graph.steps.iter().enumerate() {
                if node.undo == UndoKind::HasUndo && (world.done.contains(&at) || world.maybe.contains(&at)) {
                    prop_assert!(world.undone.contains(&at), "step {} was left standing", at);
                }
            }
            if let Some(pivot) = graph.pivot() {
                prop_assert!(!world.done.contains(&pivot), "nothing is undone past the pivot");
            }
        }
    }

    #[test]
    fn a_saga_whose_every_attempt_succeeds_takes_one_transition_for_each_step_of_its_way(
        graph in graphs(), script in prop::collection::vec(prop::sample::select(Arm::ALL), 20),
    ) {
        let mut state = State::initial();
        let mut script = script.into_iter();
        let mut way = Vec::new();
        while state.status == Status::Running {
            way.push(state.step_index);
            let node = &graph.steps[state.step_index];
            let event = match node.choice {
                Some(_) => Event::Chosen(script.next().expect("there are fewer choices")),
                None => Event::Done,
            };
            prop_assert!(way.len() <= graph.steps.len());
            state = transition(&graph, &state, &event).unwrap().0;
            // Whoever is in an arm came through its choice, and took that arm.
            if let Some(arm) = &node.arm {
                let choice = graph.position(&arm.choice).expect("the choice is there");
                let nth = way.iter().filter(|at| graph.steps[**at].choice.is_some()).position(|at| *at == choice);
                prop_assert_eq!(nth.and_then(|nth| state.arms.iter().nth(nth)), Some(arm.arm));
            }
        }
        prop_assert_eq!(state.status, Status::Completed);
        prop_assert_eq!(way, graph.path(&state.arms, usize::MAX).collect::<Vec<_>>());
        prop_assert!(transition(&graph, &state, &Event::Done).is_err());
    }

    #[test]
    fn a_step_that_follows_names_the_steps_before_it(graph in graphs()) {
        for (at, node) in graph.steps.iter().enumerate() {
            let before: Vec<_> = (0..graph.steps.len())
                .filter(|before| graph.successors(*before).any(|next| next == at))
                .map(|before| graph.steps[before].name.clone())
                .collect();
            prop_assert_eq!(before.is_empty(), at == 0, "only the first step has none before it");
            prop_assert_eq!(&node.after, &before);
        }
    }
}

fn three_steps(kind: StepKind) -> Graph {
    let nodes = vec![
        node(0, kind, Placement::BeforePivot, UndoKind::HasUndo),
        node(1, kind, Placement::Pivot, UndoKind::ForwardOnly),
        node(2, kind, Placement::AfterPivot, UndoKind::ForwardOnly),
    ];
    Graph::new("three", 0, "default", None, nodes).unwrap()
}

fn at(at: usize) -> State {
    State { step_index: at, attempt: 1, ..State::initial() }
}

fn parent_compensates() -> Event {
    Event::ParentCompensates { saga: SagaId::generate(), cause: Cause::DeadlinePassed }
}

fn cancel() -> Event {
    Event::Cancel { actor: "a".into(), reason: "r".into(), origin: CancelOrigin::Requested }
}

#[test]
fn a_cancel_after_the_pivot_is_refused() {
    assert_eq!(transition(&three_steps(StepKind::Transaction), &at(2), &cancel()), Err(Refusal::PastPivot));
}

#[test]
fn a_deadline_after_the_pivot_has_no_effect() {
    assert!(transition(&three_steps(StepKind::Transaction), &at(2), &Event::DeadlinePassed).is_err());
}

#[test]
fn a_deadline_compensates_a_dead_saga_before_the_pivot_only() {
    let graph = three_steps(StepKind::Transaction);
    let dead = |at| State { status: Status::Dead, attempt: 5, ..self::at(at) };
    let (state, next) = transition(&graph, &dead(1), &Event::DeadlinePassed).unwrap();
    assert_eq!((state.status, state.step_index, next), (Status::Compensating, 0, Next::Work));
    assert_eq!(state.cause, Some(Cause::DeadlinePassed));
    assert_eq!(transition(&graph, &dead(2), &Event::DeadlinePassed), Err(Refusal::PastPivot));
    let undoing = State { direction: Direction::Undo, cause: Some(Cause::DeadlinePassed), ..dead(0) };
    assert_eq!(transition(&graph, &undoing, &Event::DeadlinePassed), Err(Refusal::AlreadyCompensating));
}

#[test]
fn a_discard_compensates_before_the_pivot_finishes_behind_it_and_abandons_an_undo() {
    let graph = three_steps(StepKind::Call);
    let dead = |at| State { status: Status::Dead, attempt: 5, ..self::at(at) };
    assert_eq!(discard(&graph, &dead(0)), DiscardEffect::Compensate);
    assert_eq!(discard(&graph, &dead(1)), DiscardEffect::Compensate);
    assert_eq!(discard(&graph, &State { in_doubt: true, ..dead(1) }), DiscardEffect::Finish);
    assert_eq!(discard(&graph, &dead(2)), DiscardEffect::Finish);
    assert_eq!(discard(&graph, &State { direction: Direction::Undo, ..dead(0) }), DiscardEffect::Abandon);
    assert_eq!(
        discard(&crate::model::graph::UNKNOWN_GRAPH, &dead(usize::MAX)),
        DiscardEffect::Abandon,
        "an unknown step"
    );
}

#[test]
fn a_failure_behind_the_pivot_dead_letters_the_saga() {
    let failed = Event::Failed(Failure::new("no", "no"));
    let (state, next) = transition(&three_steps(StepKind::Transaction), &at(2), &failed).unwrap();
    assert_eq!((state.status, state.direction, next), (Status::Dead, Direction::Action, Next::Rest));
}

#[test]
fn a_call_pivot_in_doubt_can_not_be_cancelled_and_is_dead_lettered_when_exhausted() {
    let graph = three_steps(StepKind::Call);
    let doubtful = State { in_doubt: true, ..at(1) };
    assert_eq!(transition(&graph, &doubtful, &cancel()), Err(Refusal::PastPivot));
    let exhausted = Event::Exhausted(Failure::new("no", "no"));
    assert_eq!(transition(&graph, &at(1), &exhausted).unwrap().0.status, Status::Dead);
}

#[test]
fn a_call_that_may_have_happened_is_undone_and_one_that_did_not_is_not() {
    let graph = three_steps(StepKind::Call);
    let failed = Event::Failed(Failure::new("no", "no"));
    assert_eq!(transition(&graph, &at(0), &failed).unwrap().0.status, Status::Compensated);
    let doubtful = State { in_doubt: true, ..at(0) };
    let (state, _) = transition(&graph, &doubtful, &failed).unwrap();
    assert_eq!((state.status, state.step_index), (Status::Compensating, 0));
}

#[test]
fn an_undo_out_of_attempts_is_dead_lettered_and_retried_at_the_same_step() {
    let graph = three_steps(StepKind::Transaction);
    let cause = Some(Cause::DeadlinePassed);
    let undoing =
        State { status: Status::Compensating, direction: Direction::Undo, cause, attempt: 10, ..at(0) };
    let (dead, _) = transition(&graph, &undoing, &Event::Exhausted(Failure::new("no", "no"))).unwrap();
    assert_eq!(dead.status, Status::Dead);
    let (retried, next) = transition(&graph, &dead, &Event::Retried).unwrap();
    assert_eq!(
        (retried.status, retried.step_index, retried.attempt, next),
        (Status::Compensating, 0, 0, Next::Work)
    );
}

#[test]
fn a_child_that_has_completed_is_undone_from_behind_its_last_step_unless_it_has_a_pivot() {
    let completed = |graph: &Graph| State { status: Status::Completed, ..at(graph.steps.len() - 1) };
    let two = |second| {
        let first = node(0, StepKind::Transaction, Placement::BeforePivot, UndoKind::HasUndo);
        Graph::new("two", 0, "default", None, vec![first, second]).unwrap()
    };
    let undone = two(node(1, StepKind::Call, Placement::BeforePivot, UndoKind::HasUndo));
    let (state, next) = transition(&undone, &completed(&undone), &parent_compensates()).unwrap();
    assert_eq!((state.status, state.step_index, next), (Status::Compensating, 1, Next::Work));
    assert!(matches!(state.cause, Some(Cause::Parent { .. })));
    let with_pivot = two(node(1, StepKind::Call, Placement::Pivot, UndoKind::ForwardOnly));
    let refused = transition(&with_pivot, &completed(&with_pivot), &parent_compensates());
    assert_eq!(refused, Err(Refusal::PastPivot));
    let compensated = State { status: Status::Compensated, ..completed(&undone) };
    assert_eq!(transition(&undone, &compensated, &parent_compensates()), Err(Refusal::Ended));
    let running = State { attempt: 1, ..at(1) };
    let (state, _) = transition(&undone, &running, &parent_compensates()).unwrap();
    assert_eq!(
        (state.status, state.step_index),
        (Status::Compensating, 0),
        "it is cancelled where it stands"
    );
}

#[test]
fn a_step_that_has_opened_children_is_undone_and_begun_anew_when_it_is_retried() {
    let children = node(0, StepKind::ForEach, Placement::BeforePivot, UndoKind::HasUndo);
    let graph = Graph::new("each", 0, "default", None, vec![children]).unwrap();
    let opened = transition(&graph, &at(0), &Event::Opened).unwrap().0;
    let failed = Event::Failed(Failure::new("no", "no"));
    assert_eq!(transition(&graph, &opened, &failed).unwrap().0.status, Status::Compensating);
    assert_eq!(transition(&graph, &at(0), &failed).unwrap().0.status, Status::Compensated, "it had none");
    let waiting = transition(&graph, &opened, &Event::Waiting).unwrap().0;
    assert!(waiting.in_doubt && waiting.attempt == 0);
    let dead = State { status: Status::Dead, ..opened };
    assert_eq!(
        transition(&graph, &dead, &Event::Retried).unwrap().0.round,
        0,
        "before the pivot it is all or nothing"
    );
    for (settled, round) in [(false, 1), (true, 0)] {
        let children = ChildrenNode { definitions: vec!["child".into()], at_most: None, settled };
        let node = node(0, StepKind::ForEach, Placement::AfterPivot, UndoKind::ForwardOnly);
        let behind =
            Graph::new("each", 0, "default", None, vec![Node { children: Some(children), ..node }]).unwrap();
        assert_eq!(transition(&behind, &dead, &Event::Retried).unwrap().0.round, round);
    }
    let done = transition(&graph, &State { round: 1, ..at(0) }, &Event::Done).unwrap().0;
    assert_eq!((done.status, done.round), (Status::Completed, 0));
}
