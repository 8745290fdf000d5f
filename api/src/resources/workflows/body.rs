//! The JSON of workflows.

use chrono::{DateTime, Utc};
use engine::{ChildOf, ChildrenOf, HistoryEntry, ReportedProgress, SagaPayload, SagaView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    cause::WorkflowCause,
    enums::{ChoiceArm, StepDirection, StepOutcome},
};
use crate::{http::documented_enum::documented_enum, resources::page::list};

/// A workflow to be started.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWorkflow {
    /// The name of the definition; see `/api/workflow-definitions`.
    #[schema(example = "cancel-order")]
    pub(crate) definition: String,
    /// The input, valid by the input schema of the definition.
    pub(crate) input: Value,
    /// Makes the start idempotent: a second start of this definition with the same key returns the first workflow. Once
    /// that was deleted, the key is refused until a year after its end, unless set otherwise. Keys that the shop uses
    /// for its own mails are reserved, and so is the id of an order as the key of a workflow for another order.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^(?!(order-(confirmed|rejected|cancelled|shipped)|payment-reminder|return-(approved|received|closed)|sent):)[^\\u0000]*$"
    )]
    pub(crate) business_key: Option<String>,
    /// A signal that is sent with the start, to the new workflow or to the one that has this business key. If it is
    /// refused, so is the start, and the other way round.
    pub(crate) signal: Option<StartSignal>,
}

/// A signal that is sent with the start of a workflow.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartSignal {
    /// The name of the signal.
    #[schema(example = "payment-received", format = "searchable")]
    pub(crate) name: String,
    /// The message, valid by the `message_schema` of the step that waits for it.
    pub(crate) message: Value,
    /// Makes sending idempotent: the workflow takes one signal of this name and key, for as long as it is kept.
    #[schema(min_length = 1, max_length = 200, pattern = "^[^\\u0000]*$", example = "payment-17")]
    pub(crate) key: Option<String>,
}

/// Why a workflow is cancelled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkflowCancellation {
    /// The reason, for the history.
    #[schema(format = "reason")]
    pub(crate) reason: Option<String>,
}

documented_enum!(WorkflowStatus, "The status of a workflow.", engine::Status::ALL);

/// One run of a definition, with its input and its result.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Workflow {
    #[serde(flatten)]
    pub(crate) listed: ListedWorkflow,
    pub(crate) input: Value,
    /// What it gave; `null` until it has completed, and for definitions that give nothing.
    #[schema(value_type = Value)]
    pub(crate) result: Option<Value>,
    /// How far its children are, for each step that has any. `/api/workflows/{workflow_id}/children/{step}` says what
    /// each gave, `/api/workflows/{workflow_id}/tree` also counts theirs. `null` if they are too many to be counted within
    /// two seconds.
    pub(crate) children: Option<Vec<WorkflowChildren>>,
}

/// How far the children of one step are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowChildren {
    #[schema(example = "book")]
    pub(crate) step: String,
    /// How many have not ended.
    pub(crate) open: i64,
    pub(crate) completed: i64,
    /// How many compensated, or were refused by their first step.
    pub(crate) compensated: i64,
    /// How many died, and were given up.
    pub(crate) given_up: i64,
    /// How many of the open ones wait for a process that knows their graph.
    pub(crate) wait_for_version: i64,
    /// The hashes of the graphs for which they wait, at most ten.
    pub(crate) missing_graphs: Vec<String>,
}

/// The place of a workflow among the children of another.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowParent {
    /// The parent.
    pub(crate) workflow_id: Uuid,
    /// The topmost ancestor.
    pub(crate) root_id: Uuid,
    /// The parent's step.
    #[schema(example = "book")]
    pub(crate) step: String,
    /// How often that step had been begun anew.
    pub(crate) round: u32,
    /// The number of the child, from zero.
    pub(crate) position: u32,
    /// How many ancestors it has.
    pub(crate) depth: u16,
}

/// One run of a definition. Its input is in `/api/workflows/{workflow_id}`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedWorkflow {
    pub(crate) workflow_id: Uuid,
    pub(crate) definition: String,
    #[schema(value_type = WorkflowStatus)]
    pub(crate) status: engine::Status,
    /// The step at which the workflow is, or ended.
    pub(crate) step: String,
    /// The side of the step.
    #[schema(value_type = StepDirection)]
    pub(crate) direction: engine::Direction,
    pub(crate) business_key: Option<String>,
    /// The current or last attempt, from one; zero before the first.
    pub(crate) attempt: u32,
    /// When the workflow can continue, or when its lease ends; `null` when it has ended.
    pub(crate) due_at: Option<DateTime<Utc>>,
    /// When it compensates unless it has passed its point of no return.
    pub(crate) deadline_at: Option<DateTime<Utc>>,
    /// The last error.
    pub(crate) error: Option<String>,
    /// Why it compensates or has compensated; `null` also if only a newer version knows that kind of cause.
    pub(crate) cause: Option<WorkflowCause>,
    /// Whether a cancellation is pending.
    pub(crate) cancel_requested: bool,
    /// What it waits for besides its due time, if no worker holds it: `sleep` (a time), `signal` (a message, or a
    /// time), `children` (their ends), `version` (a process that knows its graph), `lock` (a lock that another
    /// transaction holds, or its turn at a step that is slow). `null` if it waits for none of these. More may be added.
    #[schema(example = "signal")]
    pub(crate) waits_for: Option<String>,
    /// When its sleep, or its wait for a signal, ends at the latest.
    pub(crate) wait_until: Option<DateTime<Utc>>,
    /// The signal that ends that wait.
    #[schema(example = "payment-received")]
    pub(crate) signal: Option<String>,
    /// The arms that it took, in the order in which it came to its choices; its history names the choices.
    #[schema(value_type = Vec<ChoiceArm>)]
    pub(crate) arms: Vec<engine::Arm>,
    /// How far the call at its step is; `null` if the call has reported nothing.
    pub(crate) progress: Option<WorkflowProgress>,
    /// The workflow whose child it is; `null` for most.
    pub(crate) parent: Option<WorkflowParent>,
    pub(crate) queue: String,
    /// The hash of the graph that the definition had when the workflow was started.
    pub(crate) graph_hash: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) ended_at: Option<DateTime<Utc>>,
}

/// How far a call is, as it reported last. It is written about once a second.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowProgress {
    /// How much is done, in a unit that the step chooses.
    #[schema(example = 812)]
    pub(crate) done: u64,
    /// How much there is to do; `null` if the step does not know.
    #[schema(example = 1000)]
    pub(crate) total: Option<u64>,
    /// A few words of the step.
    #[schema(max_length = 200, example = "uploading part 9 of 11")]
    pub(crate) note: Option<String>,
    /// The attempt that reported it. It is an earlier one than the workflow's while that has reported nothing yet.
    pub(crate) attempt: u32,
    /// When it was reported.
    pub(crate) at: DateTime<Utc>,
}

list!(WorkflowList of ListedWorkflow, "A page of workflows, newest first.");

/// One entry of the history of a workflow.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowHistoryEntry {
    /// The number of the entry, from one, without gaps.
    pub(crate) seq: i32,
    pub(crate) step: String,
    /// The side of the step.
    #[schema(value_type = StepDirection)]
    pub(crate) direction: engine::Direction,
    #[schema(value_type = StepOutcome)]
    pub(crate) outcome: engine::HistoryOutcome,
    /// The attempt, from one; zero for entries that are no attempts.
    pub(crate) attempt: u32,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) duration_ms: i64,
    /// The output of the step; `null` if there is none.
    #[schema(value_type = Value)]
    pub(crate) output: Option<Value>,
    /// The error with its causes, outermost first; for a cancellation, who cancelled and why.
    pub(crate) error: Vec<String>,
    /// The worker process.
    pub(crate) worker: Option<Uuid>,
    /// The epoch of the worker's claim.
    pub(crate) epoch: i64,
}

list!(WorkflowHistoryEntryList of WorkflowHistoryEntry, "A page of the history of a workflow, oldest first.");

impl Workflow {
    pub(crate) fn new(
        SagaPayload { saga, input, result }: SagaPayload,
        children: Option<Vec<ChildrenOf>>,
    ) -> Self {
        let children = children.map(|children| children.into_iter().map(Into::into).collect());
        Self { listed: saga.into(), input, result, children }
    }
}

impl From<ChildrenOf> for WorkflowChildren {
    fn from(of: ChildrenOf) -> Self {
        let ChildrenOf { step, open, completed, compensated, given_up, wait_for_version, missing_graphs } =
            of;
        Self { step, open, completed, compensated, given_up, wait_for_version, missing_graphs }
    }
}

impl From<ChildOf> for WorkflowParent {
    fn from(ChildOf { parent_id, root_id, step, round, position, depth }: ChildOf) -> Self {
        Self { workflow_id: parent_id.0, root_id: root_id.0, step, round, position, depth }
    }
}

impl From<SagaView> for ListedWorkflow {
    fn from(saga: SagaView) -> Self {
        Self {
            workflow_id: saga.saga_id.0,
            definition: saga.definition,
            status: saga.status,
            step: saga.step,
            direction: saga.direction,
            business_key: saga.business_key,
            attempt: saga.attempt,
            due_at: saga.due_at,
            deadline_at: saga.deadline_at,
            error: saga.error,
            cause: WorkflowCause::known(saga.cause),
            cancel_requested: saga.cancel_requested,
            waits_for: saga.waits_for,
            wait_until: saga.wait_until,
            signal: saga.signal,
            arms: saga.arms.iter().collect(),
            progress: saga.progress.map(WorkflowProgress::from),
            parent: saga.child_of.map(Into::into),
            queue: saga.queue,
            graph_hash: saga.graph_hash,
            created_at: saga.created_at,
            ended_at: saga.ended_at,
        }
    }
}

impl From<ReportedProgress> for WorkflowProgress {
    fn from(ReportedProgress { done, total, note, attempt, at }: ReportedProgress) -> Self {
        Self { done, total, note, attempt, at }
    }
}

impl From<HistoryEntry> for WorkflowHistoryEntry {
    fn from(entry: HistoryEntry) -> Self {
        Self {
            seq: entry.seq,
            step: entry.step,
            direction: entry.direction,
            outcome: entry.outcome,
            attempt: entry.attempt,
            started_at: entry.started_at,
            duration_ms: entry.duration_ms,
            output: entry.output,
            error: entry.error,
            worker: entry.worker.map(|worker| worker.0),
            epoch: entry.epoch,
        }
    }
}

/// The example of a workflow with its input in the OpenAPI document.
pub(crate) fn example() -> Value {
    let mut workflow = listed_example();
    workflow["result"] = Value::Null;
    workflow["children"] = json!([]);
    workflow["input"] = json!({
        "order_id": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3d",
        "reason": "changed my mind",
        "actor": "key:backoffice"
    });
    workflow
}

/// The example of a workflow in a list.
pub(super) fn listed_example() -> Value {
    json!({
        "workflow_id": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3e",
        "definition": "cancel-order",
        "status": "completed",
        "step": "finish-cancellation",
        "direction": "action",
        "business_key": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3d",
        "attempt": 1,
        "due_at": null,
        "deadline_at": null,
        "error": null,
        "cause": null,
        "cancel_requested": false,
        "waits_for": null,
        "wait_until": null,
        "signal": null,
        "arms": [],
        "progress": null,
        "parent": null,
        "queue": "default",
        "graph_hash": "g1:9f6c2ab1d0e84c11",
        "created_at": "2026-11-22T10:00:00.000123Z",
        "ended_at": "2026-11-22T10:00:00.005Z"
    })
}
