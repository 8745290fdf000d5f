//! Checks how definitions contain each other: every graph that is registered, also the earlier ones, against the newest
//! graphs of its children, which are those that it starts.

use crate::{
    model::{
        error::GraphError,
        graph::{Graph, Node},
        kinds::UndoKind,
    },
    runtime::definitions::Definitions,
};

/// The most ancestors that a saga may have.
pub(crate) const DEEPEST: u16 = 8;

/// Checks the children of all graphs.
///
/// # Errors
/// When a child is not registered, has a pivot although it has to be undone, or contains its parent, or when there are too
/// many generations.
pub(crate) fn check(definitions: &Definitions) -> Result<(), GraphError> {
    definitions.all().try_for_each(|definition| descend(definitions, &definition.graph, &mut Vec::new()))
}

fn descend<'a>(
    definitions: &'a Definitions,
    graph: &'a Graph,
    ancestors: &mut Vec<&'a str>,
) -> Result<(), GraphError> {
    if ancestors.contains(&graph.name.as_str()) {
        return Err(GraphError::ContainsItself { saga: graph.name.clone(), through: ancestors.join(", ") });
    }
    if ancestors.len() > usize::from(DEEPEST) {
        return Err(GraphError::TooDeep { saga: ancestors[0].into(), deepest: DEEPEST });
    }
    ancestors.push(&graph.name);
    for node in &graph.steps {
        for child in child_graphs(definitions, graph, node) {
            let child = child?;
            if node.undo == UndoKind::HasUndo && child.pivot().is_some() {
                return Err(GraphError::ChildHasPivot {
                    saga: graph.name.clone(),
                    step: node.name.clone(),
                    child: child.name.clone(),
                });
            }
            descend(definitions, child, ancestors)?;
        }
    }
    ancestors.pop();
    Ok(())
}

fn child_graphs<'a>(
    definitions: &'a Definitions,
    graph: &'a Graph,
    node: &'a Node,
) -> impl Iterator<Item = Result<&'a Graph, GraphError>> {
    let names = node.children.iter().flat_map(|children| &children.definitions);
    names.map(|name| match definitions.newest(name) {
        Some(child) => Ok(&child.graph),
        None => Err(GraphError::NoSuchChild {
            saga: graph.name.clone(),
            step: node.name.clone(),
            child: name.clone(),
        }),
    })
}
