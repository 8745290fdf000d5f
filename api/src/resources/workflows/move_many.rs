//! POST `/api/workflows/move`.

use std::time::Instant;

use axum::extract::State;
use engine::{MoveError, MovePlan, MoveResult};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    extract::{Actor, JsonBody, NoQuery, check_reason},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, problems},
    },
    resources::bulk_plan::{
        BulkPlan, PlanToken, Planned, PlannedEffect, PlannedSample, TIME_LIMIT, check_limit, default_dry_run,
        default_limit, plan_changed,
    },
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::PlanChanged]);

/// Which workflows are moved, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkflowMove {
    /// The definition.
    #[schema(example = "place-order", format = "searchable")]
    definition: String,
    /// The `graph_hash` of the workflows. If it is that of the newest graph, there is nothing to move.
    #[schema(example = "g1:9f6c2ab1d0e84c11", pattern = "^g[0-9]+:[0-9a-f]+$")]
    from: String,
    /// How many at most, those first that may be moved, the oldest of them first; fewer if they take longer than ten seconds.
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: u32,
    /// Only says what would be done and changes nothing, unless this is `false`.
    #[serde(default = "default_dry_run")]
    #[schema(default = true)]
    dry_run: bool,
    /// The `plan_token` of a dry run: with `"dry_run": false` the plan is carried out as it was shown, or, if it would do
    /// something else now, nothing is done (409 `plan-changed`).
    #[schema(pattern = "^[A-Za-z0-9_-]{32}$")]
    plan_token: Option<String>,
    /// For the audit.
    #[schema(min_length = 1, format = "reason", example = "the old build is gone")]
    reason: String,
}

/// The result of moving workflows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowMoveResult {
    dry_run: bool,
    /// The newest graph of the definition, to which they are moved.
    #[schema(example = "g1:5d02be7a91c3f860")]
    graph_hash: String,
    /// The moved ones, oldest first; none in a dry run.
    moved: Vec<Uuid>,
    /// Those that were not moved, with the reason, those included for which there was no time left; none in a dry run.
    skipped: Vec<UnmovedWorkflow>,
    /// What would be done; `null` once it is done.
    plan: Option<BulkPlan>,
}

/// A workflow that was not moved, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UnmovedWorkflow {
    workflow_id: Uuid,
    reason: String,
}

/// Move workflows to the newest graph
///
/// A workflow belongs to the graph with which it was started, and waits (`version`) if no process knows it any more. This
/// moves those of one earlier graph to the newest one of their definition, if `dry_run` is `false`; otherwise it answers
/// with the plan of what it would do to which, and changes nothing.
///
/// A workflow can be moved if it is running and no worker holds it, the call at which it stands was certainly not made,
/// every step that it has begun is the same in both graphs, and the newest code can read what it has stored. All others are
/// skipped, with the reason.
#[utoipa::path(
    post,
    path = "/api/workflows/move",
    tag = "workflows",
    params(Actor),
    request_body(content = WorkflowMove, example = json!({
        "definition": "place-order", "from": "g1:9f6c2ab1d0e84c11", "dry_run": true, "reason": "the old build is gone"
    })),
    responses(
        (
            status = 200,
            description = "What was moved; in a dry run, what would be",
            body = WorkflowMoveResult,
            example = json!({
                "dry_run": true, "graph_hash": "g1:5d02be7a91c3f860", "moved": [], "skipped": [],
                "plan": {
                    "plan_token": "AAZJ8S7vWAB4OwpEl1sGkfJ2cXjUoXwk", "count": 2,
                    "kinds": [{
                        "definition": "place-order", "step": "confirm-order", "direction": "action", "effect": "move",
                        "why": null, "count": 2,
                        "samples": [{"workflow_id": "0199f3a0-0000-7000-8000-000000000000", "dead_job_id": null}]
                    }]
                }
            })
        ),
        Problems
    )
)]
pub(crate) async fn move_workflows(
    State(state): State<ApiState>,
    _: NoQuery,
    actor: Actor,
    JsonBody { value: asked, .. }: JsonBody<WorkflowMove>,
) -> Result<JsonResponse, Problem> {
    let began = Instant::now();
    check_limit(asked.limit)?;
    if asked.reason.trim().is_empty() {
        return Err(Problem::field("/reason", "wrong-length", "say why they are moved"));
    }
    check_reason(&asked.reason)?;
    let token = asked.plan_token.as_deref();
    let token = token.map(PlanToken::of_request).transpose()?;
    let _permit = state.scan_permit()?;
    let plan = state.engine().plan_move(&asked.definition, &asked.from, asked.limit).await?;
    let about = format!("move from {} to {}", plan.from, plan.to);
    let shown = |plan: &MovePlan| BulkPlan::of(&about, plan.made_at, &all(plan));
    if token.is_some_and(|token| !token.names(&about, &all(&plan))) {
        return Err(plan_changed(&shown(&plan)));
    }
    let (done, plan_shown) = if asked.dry_run {
        (MoveResult::default(), Some(shown(&plan)))
    } else {
        let by = actor.audited_or("operator");
        let left = TIME_LIMIT.saturating_sub(began.elapsed());
        (state.engine().carry_out_move(&plan, left, by, &asked.reason).await?, None)
    };
    let unmoved = |(id, reason): (engine::SagaId, String)| UnmovedWorkflow { workflow_id: id.0, reason };
    JsonResponse::ok(&WorkflowMoveResult {
        dry_run: asked.dry_run,
        graph_hash: plan.to,
        moved: done.moved.into_iter().map(|id| id.0).collect(),
        skipped: done.skipped.into_iter().map(unmoved).collect(),
        plan: plan_shown,
    })
}

fn all(plan: &MovePlan) -> Vec<Planned<'_>> {
    let planned = plan.sagas.iter().map(|saga| Planned {
        sample: PlannedSample { workflow_id: saga.saga_id.0, dead_job_id: None },
        definition: &plan.definition,
        step: &saga.step,
        direction: saga.direction,
        effect: saga.refusal.as_deref().map_or(Ok(PlannedEffect::Move), Err),
    });
    planned.collect()
}

impl From<MoveError> for Problem {
    fn from(error: MoveError) -> Self {
        match error {
            MoveError::UnknownDefinition(_) => Self::field("/definition", "unknown", error.to_string()),
            MoveError::UnknownGraph { .. } => Self::field("/from", "unknown", error.to_string()),
            MoveError::Database(error) => error.into(),
        }
    }
}
