//! A fail point ends a real process at a chosen step, for tests that kill workers.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::faults::{Fault, FaultPoint, Faults};
use crate::{
    definition::saga::Definition,
    model::{graph::Graph, ids::SagaId, kinds::UndoKind, status::Direction},
};

/// Aborts the process when it reaches a point for the `nth` time.
#[derive(Debug)]
pub struct FailPoint {
    point: FaultPoint,
    fault: Fault,
    passes_left: AtomicU32,
}

impl FailPoint {
    /// Parses a point such as `place-order/reserve-stock/action/before-commit`, optionally with `@n` for the nth time.
    ///
    /// # Errors
    /// A sentence about the expected syntax.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a fail point: write definition/step/action|undo/before-commit|after-commit, @n optional"
            )
        };
        let (point, nth) = text.split_once('@').unwrap_or((text, "1"));
        let nth: u32 = nth.parse().map_err(|_| wrong())?;
        let parts: Vec<&str> = point.split('/').collect();
        let [definition, step, direction, moment] = parts[..] else { return Err(wrong()) };
        let direction: Direction = direction.parse().map_err(|_| wrong())?;
        let fault = match moment {
            "before-commit" => Fault::CrashBeforeCommit,
            "after-commit" => Fault::CrashAfterCommit,
            _ => return Err(wrong()),
        };
        let point = FaultPoint { definition: definition.into(), step: step.into(), direction };
        Ok(Self { point, fault, passes_left: AtomicU32::new(nth.max(1)) })
    }

    /// Checks that one of these sagas has the point.
    ///
    /// # Errors
    /// A sentence that names what is wrong and the possible values.
    pub fn check<'a>(&self, definitions: impl Iterator<Item = &'a Definition>) -> Result<(), String> {
        let FaultPoint { definition, step, direction } = &self.point;
        let graphs: Vec<_> = definitions.map(Definition::graph).collect();
        let Some(graph) = graphs.iter().find(|graph| graph.name == *definition) else {
            let names: Vec<_> = graphs.iter().map(|graph| graph.name.as_str()).collect();
            return Err(format!("no saga is named `{definition}`; there are {}", names.join(", ")));
        };
        let points = points(graph);
        if points.contains(&(step.as_str(), *direction)) {
            return Ok(());
        }
        let wrong = match graph.position(step) {
            None => format!("`{definition}` has no step `{step}`"),
            Some(_) => {
                format!("`{definition}` has no `{step}/{direction}` at which a process could be killed")
            }
        };
        let names: Vec<_> = points.iter().map(|(step, direction)| format!("{step}/{direction}")).collect();
        Err(format!("{wrong}; there are {}", names.join(", ")))
    }
}

/// The actions and undos at which a process can be killed: every action except that of an entry step, which runs in the
/// commit that starts the saga, and the undo of every step that has one.
fn points(graph: &Graph) -> Vec<(&str, Direction)> {
    let actions = graph.steps.iter().filter(|node| !node.entry).map(|node| (node, Direction::Action));
    let undos = graph.steps.iter().filter(|node| node.undo == UndoKind::HasUndo);
    let undos = undos.map(|node| (node, Direction::Undo));
    actions.chain(undos).map(|(node, direction)| (node.name.as_str(), direction)).collect()
}

impl Faults for FailPoint {
    fn at(&self, _: SagaId, point: &FaultPoint, _: u32) -> Option<Fault> {
        if *point != self.point {
            return None;
        }
        let before =
            self.passes_left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        (before == Ok(1)).then(|| self.fault.clone())
    }

    fn crashed(&self) {
        tracing::error!(point = ?self.point, fault = ?self.fault, "the fail point was reached: the process ends here");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_parsed_with_its_count() {
        let fail_point = FailPoint::parse("place-order/reserve-stock/undo/after-commit@3").unwrap();
        let point = FaultPoint {
            definition: "place-order".into(),
            step: "reserve-stock".into(),
            direction: Direction::Undo,
        };
        let passes: Vec<_> = (0..4).map(|_| fail_point.at(SagaId::generate(), &point, 1)).collect();
        assert_eq!(passes, [None, None, Some(Fault::CrashAfterCommit), None]);
    }

    #[test]
    fn the_error_for_a_malformed_point_describes_the_syntax() {
        assert!(FailPoint::parse("place-order/reserve-stock").unwrap_err().contains("before-commit"));
    }
}
