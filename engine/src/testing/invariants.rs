//! The invariants of a saga's history that hold whatever faults occur.

use std::collections::HashMap;

use crate::model::{
    graph::Graph,
    kinds::{StepKind, UndoKind},
    status::{Direction, Status},
    views::{HistoryEntry, HistoryOutcome, SagaView},
};

/// Lists the violations in a saga and its history: effects that happened twice, undos without an action or out of
/// order, effects that are not undone, epochs that decreased, gaps.
pub fn history_violations(graph: &Graph, saga: &SagaView, history: &[HistoryEntry]) -> Vec<String> {
    let mut violations = Vec::new();
    // `Started` shows the attempt in progress. It is not stored, so it is no entry of the numbered history yet.
    let entries: Vec<_> = history.iter().filter(|entry| entry.outcome != HistoryOutcome::Started).collect();
    for (entry, seq) in entries.iter().zip(1..) {
        if entry.seq != seq {
            violations.push(format!("history has a gap: entry {seq} is missing"));
            break;
        }
    }
    if entries.windows(2).any(|pair| pair[1].epoch < pair[0].epoch) {
        violations.push("an older epoch wrote after a newer one".into());
    }
    let mut effects: HashMap<(&str, Direction), u32> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.outcome == HistoryOutcome::Done) {
        *effects.entry((entry.step.as_str(), entry.direction)).or_default() += 1;
    }
    for ((step, direction), count) in &effects {
        if *count > 1 {
            violations.push(format!("the {direction} of `{step}` took effect {count} times"));
        }
    }
    let done = |step: &str, direction| effects.contains_key(&(step, direction));
    let undone: Vec<usize> = entries
        .iter()
        .filter(|entry| entry.outcome == HistoryOutcome::Done && entry.direction == Direction::Undo)
        .filter_map(|entry| graph.position(&entry.step))
        .collect();
    if undone.windows(2).any(|pair| pair[0] <= pair[1]) {
        violations.push("undos did not run in reverse order".into());
    }
    for at in &undone {
        let node = &graph.steps[*at];
        let was_started =
            entries.iter().any(|entry| entry.step == node.name && entry.direction == Direction::Action);
        // A call that may have happened is undone too; a transaction step only if it is done.
        if !was_started || (node.kind == StepKind::Transaction && !done(&node.name, Direction::Action)) {
            violations.push(format!("`{}` was undone, but never done", node.name));
        }
    }
    match saga.status {
        Status::Completed => {
            violations.extend(
                graph
                    .path(&saga.arms, usize::MAX)
                    .map(|at| &graph.steps[at])
                    .filter(|node| !done(&node.name, Direction::Action))
                    .map(|node| format!("completed without `{}`", node.name)),
            );
            if !undone.is_empty() {
                violations.push("completed, but something was undone".into());
            }
        }
        Status::Compensated => violations.extend(
            graph
                .steps
                .iter()
                .filter(|node| node.undo == UndoKind::HasUndo)
                .filter(|node| done(&node.name, Direction::Action) && !done(&node.name, Direction::Undo))
                .map(|node| format!("compensated, but `{}` is not undone", node.name)),
        ),
        Status::Running | Status::Compensating | Status::Dead => {}
    }
    violations
}
