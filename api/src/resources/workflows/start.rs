//! POST `/api/workflows`.

use axum::{extract::State, response::Response};
use engine::SagaId;
use http::StatusCode;
use shop::{
    commands::{self, StartWorkflowError, WorkflowStart},
    sagas::reserved_key,
};

use super::{
    body::{NewWorkflow, StartSignal, Workflow, example},
    load::{key_of_deleted, load},
    signal_body::signal,
};
use crate::{
    extract::{Actor, JsonBody, NoQuery, Prefer, schema},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{
            BODY_PROBLEMS, DATABASE_PROBLEMS, IDEMPOTENCY_PROBLEMS, PREFERENCE_APPLIED, created, problems,
        },
    },
    idempotency::IdempotencyKey,
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, IDEMPOTENCY_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::Refused, ProblemCode::BusinessKeyUsed]);
created!(
    Accepted: 202 Workflow,
    "The workflow: a new one, or the one that has this business key",
    example(),
    [PREFERENCE_APPLIED]
);

const MAX_BUSINESS_KEY_LEN: usize = 200;

/// Start a workflow
///
/// Starts a workflow of any registered definition. The input is checked against the JSON schema of the definition; the
/// first step may refuse it, too. Where the input has an `actor`, that is the caller, whomever the request names. A
/// business key makes the start idempotent per definition, for a year after the end of its workflow unless set
/// otherwise; an `Idempotency-Key` does so for 24 hours. The shop reserves the keys that it uses itself: the id of an
/// order for placing and cancelling that order, `order-confirmed:…` and the like for its own mails. With `Prefer: wait`
/// the response comes when the workflow has ended or needs an operator. A `signal` is stored in the same transaction: a
/// start that is refused stores neither.
#[utoipa::path(
    post,
    path = "/api/workflows",
    tag = "workflows",
    params(IdempotencyKey, Prefer, Actor),
    request_body(content = NewWorkflow, example = json!({
        "definition": "cancel-order",
        "input": {
            "order_id": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3d",
            "reason": "changed my mind"
        },
        "business_key": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3d"
    })),
    responses(
        Accepted,
        Problems
    )
)]
pub(crate) async fn start_workflow(
    State(state): State<ApiState>,
    _: NoQuery,
    key: IdempotencyKey,
    prefer: Prefer,
    actor: Actor,
    body: JsonBody<NewWorkflow>,
) -> Result<Response, Problem> {
    let JsonBody { value: new, bytes, .. } = body;
    check(&state, &new)?;
    let (wait, _permit) = prefer.wait_with_permit(&state);
    state
        .idempotency()
        .run(key, "start_workflow", &bytes, async |id| {
            let signal = new.signal.map(|StartSignal { name, message, key }| signal(&name, &message, key));
            let start = WorkflowStart {
                saga_id: SagaId(id),
                definition: &new.definition,
                input: new.input,
                business_key: new.business_key.as_deref(),
                signal,
                trace: state.trace_propagator().current(),
            };
            let started = commands::start_workflow(state.shop(), start, actor.audited_or("operator")).await;
            let started = started.map_err(|error| match error {
                StartWorkflowError::Start(error) => Problem::from(error),
                StartWorkflowError::Database(error) => error.into(),
            })?;
            if let Some(kept_until) = started.key_kept_until {
                return Err(key_of_deleted(started.saga_id, kept_until));
            }
            if let Some(patience) = wait {
                state.engine().wait(started.saga_id, patience).await?;
            }
            let workflow = load(&state, started.saga_id.0).await?;
            let location = format!("/api/workflows/{}", started.saga_id);
            Ok(JsonResponse::new(StatusCode::ACCEPTED, &workflow)?
                .location(location)
                .preference_applied(wait))
        })
        .await
}

fn check(state: &ApiState, new: &NewWorkflow) -> Result<(), Problem> {
    let Some(validator) = state.input_schema(&new.definition) else {
        return Err(engine::StartError::UnknownDefinition(new.definition.clone()).into());
    };
    if new.business_key.as_ref().is_some_and(|key| !(1..=MAX_BUSINESS_KEY_LEN).contains(&key.chars().count()))
    {
        let message = format!("a business key has 1 to {MAX_BUSINESS_KEY_LEN} characters");
        return Err(Problem::field("/business_key", "wrong-length", message));
    }
    schema::check(validator, "/input", &new.input)?;
    let key = new.business_key.as_deref();
    match key.and_then(|key| reserved_key(&new.definition, key, &new.input)) {
        Some(message) => Err(Problem::field("/business_key", "reserved-key", message)),
        None => Ok(()),
    }
}
