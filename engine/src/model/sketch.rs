//! Graphs in short, for tests.

use crate::model::{
    graph::{Graph, Node},
    kinds::{Placement, StepKind, UndoKind},
    open_choice::OpenChoice,
    retry::RetryPolicy,
};

/// A graph in short.
pub(crate) enum Sketch {
    /// A transaction step without an undo.
    Step(&'static str),
    /// Any step.
    Node(Node),
    /// A choice with its arms.
    Choice(Node, Vec<Sketch>, Vec<Sketch>),
}

pub(crate) fn choice(name: &str, yes: Vec<Sketch>, no: Vec<Sketch>) -> Sketch {
    Sketch::Choice(node(name, StepKind::Choice), yes, no)
}

pub(crate) fn node(name: &str, kind: StepKind) -> Node {
    Node {
        name: name.into(),
        kind,
        entry: false,
        placement: Placement::BeforePivot,
        undo: UndoKind::NothingToUndo,
        after: vec![],
        reads: vec![],
        retry: RetryPolicy::TRANSACTION,
        undo_retry: RetryPolicy::UNDO,
        wait: None,
        children: None,
        choice: None,
        arm: None,
        next: None,
    }
}

/// The graph of a sketch.
pub(crate) fn graph(sketch: Vec<Sketch>) -> Graph {
    let mut steps = Vec::new();
    draw_all(&mut steps, sketch);
    Graph::new("any", 0, "default", None, steps).expect("the sketch is of a legal graph")
}

fn draw_all(steps: &mut Vec<Node>, sketch: Vec<Sketch>) {
    for part in sketch {
        draw(steps, part);
    }
}

fn draw(steps: &mut Vec<Node>, part: Sketch) {
    match part {
        Sketch::Step(name) => steps.push(node(name, StepKind::Transaction)),
        Sketch::Node(node) => steps.push(node),
        Sketch::Choice(node, yes, no) => {
            let mut choice = OpenChoice::begin(steps, node);
            draw_all(steps, yes);
            choice.turn(steps);
            draw_all(steps, no);
            choice.close(steps);
        }
    }
}
