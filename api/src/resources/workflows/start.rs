//! POST `/api/workflows`.

use ::workflows::audit::{self, Change};
use axum::{extract::State, response::Response};
use engine::{NewSaga, SagaId};
use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::{
    body::{NewWorkflow, Workflow},
    example, load,
};
use crate::{
    answer::Answer,
    once::once,
    problem::{
        Code, Problem,
        answers::{BODY, KEYED, STORED, problems},
    },
    request::{Actor, IdempotencyKey, JsonBody, Prefer, Query, schema},
    state::ApiState,
};

problems!(Problems: BODY, KEYED, STORED, &[Code::Refused]);

const LONGEST_KEY: usize = 200;

/// Start a workflow
///
/// Of any registered definition. The input is checked against the definition's JSON schema; the definition's first step
/// may refuse it too. A business key makes the start idempotent per definition, for ever; an `Idempotency-Key` for 24
/// hours. With `Prefer: wait` the answer is held until the workflow has come to rest.
#[utoipa::path(
    post,
    path = "/api/workflows",
    tag = "workflows",
    params(IdempotencyKey, Prefer, Actor),
    request_body(content = NewWorkflow, example = json!({
        "definition": "cancel-order",
        "input": {
            "order_id": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3d",
            "reason": "changed my mind",
            "actor": "api"
        },
        "business_key": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3d"
    })),
    responses(
        (
            status = 202,
            description = "The workflow; a new one, or the one that has this business key",
            body = Workflow,
            headers(
                ("Location" = String, description = "Where the workflow is"),
                ("Preference-Applied" = String, description = "The wait that was honoured"),
                ("Idempotent-Replayed" = String, description = "`true` when this is an earlier request's answer")
            ),
            example = json!(example())
        ),
        Problems
    )
)]
pub(crate) async fn start_workflow(
    State(state): State<ApiState>,
    Query(()): Query<()>,
    key: IdempotencyKey,
    prefer: Prefer,
    actor: Actor,
    body: JsonBody<NewWorkflow>,
) -> Result<Response, Problem> {
    let JsonBody { value: new, bytes } = body;
    check(&state, &new)?;
    let (wait, _place) = prefer.wait_with_a_place(&state);
    once(&state, key, "start_workflow", &bytes, async |id| {
        record(&state, &actor, id, &new).await?;
        let mut saga =
            NewSaga::untyped(&new.definition, &new.input).id(SagaId(id)).trace(state.trace().current());
        if let Some(business_key) = new.business_key {
            saga = saga.business_key(business_key);
        }
        let started = match wait {
            None => state.engine().start(saga).await?,
            Some(patience) => state.engine().start_and_wait(saga, patience).await?.0,
        };
        let workflow = load(&state, started.saga_id.0).await?;
        let location = format!("/api/workflows/{}", started.saga_id);
        Ok(Answer::new(StatusCode::ACCEPTED, &Workflow::from(workflow))?.at(location).waited(wait))
    })
    .await
}

/// A start is a commit of the engine's own: so it is recorded before, that none is without its record. A start that is
/// refused then has one too.
async fn record(state: &ApiState, actor: &Actor, id: Uuid, new: &NewWorkflow) -> Result<(), Problem> {
    let subject = id.to_string();
    let asked = json!({"definition": new.definition, "business_key": new.business_key});
    let change = Change::of("workflow.start", "workflow", &subject).after(asked);
    let mut connection = state.pool().acquire().await?;
    Ok(audit::record(&mut connection, &actor.by("operator"), &[change]).await?)
}

fn check(state: &ApiState, new: &NewWorkflow) -> Result<(), Problem> {
    let Some(validator) = state.input_schema(&new.definition) else {
        return Err(engine::StartError::UnknownDefinition(new.definition.clone()).into());
    };
    if new.business_key.as_ref().is_some_and(|key| !(1..=LONGEST_KEY).contains(&key.chars().count())) {
        let message = format!("a business key has 1 to {LONGEST_KEY} characters");
        return Err(Problem::field("/business_key", "wrong-length", message));
    }
    schema::check(validator, "/input", &new.input)
}
