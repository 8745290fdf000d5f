//! The JSON of trees of workflows.

use engine::{SagaTree, TreeStep};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::body::{ListedWorkflow, listed_example};

/// A tree of workflows: its descendants are counted by the steps that started them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowTree {
    /// The topmost workflow.
    pub(crate) root: ListedWorkflow,
    /// How many descendants it has. `/api/workflows?root={workflow_id}` lists all of them.
    pub(crate) descendants: i64,
    /// The descendants by the steps that started them, those nearer to the topmost workflow first.
    pub(crate) steps: Vec<WorkflowTreeStep>,
    /// Descendants that need somebody, at most twenty. First those that are dead and that nobody has given up, then
    /// those that wait for a process of another version, those that compensate or have compensated for a reason of
    /// their own, and those that were given up.
    pub(crate) in_need: Vec<ListedWorkflow>,
}

/// How far the workflows of a tree are that the same step started.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowTreeStep {
    /// How many ancestors they have.
    pub(crate) depth: u16,
    /// The definition of their parents.
    #[schema(example = "import-file")]
    pub(crate) parent_definition: String,
    /// The step of their parents.
    #[schema(example = "rows")]
    pub(crate) step: String,
    /// Their own definition.
    #[schema(example = "import-row")]
    pub(crate) definition: String,
    pub(crate) running: i64,
    pub(crate) compensating: i64,
    /// How many are dead, and nobody has given them up.
    pub(crate) dead: i64,
    pub(crate) completed: i64,
    /// How many compensated, or were refused by their first step.
    pub(crate) compensated: i64,
    /// How many died, and were given up.
    pub(crate) given_up: i64,
    /// How many of those that have not ended wait for a process that knows their graph.
    pub(crate) wait_for_version: i64,
}

impl From<SagaTree> for WorkflowTree {
    fn from(SagaTree { root, steps, in_need }: SagaTree) -> Self {
        let steps: Vec<WorkflowTreeStep> = steps.into_iter().map(Into::into).collect();
        let descendants = steps.iter().map(WorkflowTreeStep::workflows).sum();
        Self { root: root.into(), descendants, steps, in_need: in_need.into_iter().map(Into::into).collect() }
    }
}

impl From<TreeStep> for WorkflowTreeStep {
    fn from(step: TreeStep) -> Self {
        Self {
            depth: step.depth,
            parent_definition: step.parent_definition,
            step: step.step,
            definition: step.definition,
            running: step.running,
            compensating: step.compensating,
            dead: step.dead,
            completed: step.completed,
            compensated: step.compensated,
            given_up: step.given_up,
            wait_for_version: step.wait_for_version,
        }
    }
}

impl WorkflowTreeStep {
    fn workflows(&self) -> i64 {
        self.running + self.compensating + self.dead + self.completed + self.compensated + self.given_up
    }
}

/// The example in the OpenAPI document.
pub(super) fn example() -> Value {
    json!({
        "root": listed_example(),
        "descendants": 1000,
        "steps": [{
            "depth": 1, "parent_definition": "import-file", "step": "rows", "definition": "import-row", "running": 20,
            "compensating": 0, "dead": 1, "completed": 978, "compensated": 1, "given_up": 0, "wait_for_version": 0
        }],
        "in_need": [listed_example()]
    })
}
