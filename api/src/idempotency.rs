//! `Idempotency-Key`: the first request does it, every later one with the same key and body gets the same answer.

mod key_finisher;

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use shop::idempotency::{self, Begin};
use tokio::time::Instant;
use uuid::Uuid;

use self::key_finisher::{Finish, KeyInFlight};
use crate::{
    extract::IdempotencyKey,
    http::{JsonResponse, Problem, ProblemCode},
    state::ApiState,
};

pub(crate) use self::key_finisher::KeyFinisher;

static REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What a good answer is kept as.
#[derive(Serialize, Deserialize)]
struct StoredResponse {
    version: Option<i64>,
    answer: Box<RawValue>,
}

/// Does `work` once per key; it gets the id that what it creates must have, which is the same should a crash make
/// somebody do it again. Without a key it is simply done. Trouble of ours (a 5xx) is not kept: the next request may
/// succeed.
///
/// A second request waits a moment for the first one's answer.
///
/// # Errors
/// What `work` gives; a 422 when the key was used with another body; a 409 when the first is still running.
pub(crate) async fn idempotent<W, F>(
    state: &ApiState,
    key: IdempotencyKey,
    operation: &str,
    body: &[u8],
    work: W,
) -> Result<Response, Problem>
where
    W: FnOnce(Uuid) -> F,
    F: Future<Output = Result<JsonResponse, Problem>>,
{
    let scope = key.scope(operation);
    let Some(key) = key.key else {
        return work(Uuid::now_v7()).await.map(IntoResponse::into_response);
    };
    let hash = Sha256::digest(body);
    let deadline = Instant::now() + state.limits().replay_timeout;
    let mut pause = Duration::from_millis(5);
    loop {
        let in_flight = KeyInFlight::new(&key, &scope);
        let begun = idempotency::begin(state.pool(), &key, &scope, &hash, in_flight.holder).await;
        let begun = match begun {
            Ok(begun) => begun,
            // Nothing was sent.
            Err(error @ (sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed)) => return Err(error.into()),
            Err(error) => {
                // Its commit may have got through all the same.
                state.key_finisher().finish_later(in_flight, Finish::Release, &error);
                return Err(error.into());
            }
        };
        match begun {
            Begin::Fresh { resource_id } => {
                return run_first(state.key_finisher(), in_flight, work(resource_id)).await;
            }
            Begin::Replay(kept) => return replay(kept),
            Begin::Mismatch => {
                return Err(Problem::new(
                    ProblemCode::IdempotencyMismatch,
                    ProblemCode::IdempotencyMismatch.example(),
                ));
            }
            Begin::InFlight if Instant::now() + pause > deadline => {
                return Err(Problem::new(
                    ProblemCode::IdempotencyInFlight,
                    ProblemCode::IdempotencyInFlight.example(),
                ));
            }
            Begin::InFlight => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(200));
            }
        }
    }
}

async fn run_first(
    key_finisher: &KeyFinisher,
    in_flight: KeyInFlight,
    work: impl Future<Output = Result<JsonResponse, Problem>>,
) -> Result<Response, Problem> {
    let result = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            key_finisher.finish(in_flight, Finish::Release).await;
            std::panic::resume_unwind(panic);
        }
    };
    let (finish, result) = match result {
        Ok(answer) => match stored_success(&answer) {
            Ok(kept) => (Finish::Store(kept), Ok(answer)),
            Err(problem) => (Finish::Release, Err(problem)),
        },
        Err(problem) => (stored_problem(&problem), Err(problem)),
    };
    key_finisher.finish(in_flight, finish).await;
    result.map(IntoResponse::into_response)
}

fn stored_success(answer: &JsonResponse) -> Result<idempotency::RecordedResponse, Problem> {
    let broken = |error: serde_json::Error| Problem::internal(format!("an answer can't be kept: {error}"));
    let raw: &RawValue = serde_json::from_slice(&answer.body).map_err(broken)?;
    let kept = StoredResponse { version: answer.version, answer: raw.to_owned() };
    let body = serde_json::to_string(&kept).map_err(broken)?;
    Ok(idempotency::RecordedResponse {
        status: answer.status.as_u16(),
        location: answer.location.clone(),
        body,
    })
}

fn stored_problem(problem: &Problem) -> Finish {
    let status = problem.code().status().as_u16();
    problem.to_stored().map_or(Finish::Release, |kept| {
        Finish::Store(idempotency::RecordedResponse { status, location: None, body: kept.to_string() })
    })
}

fn replay(kept: idempotency::RecordedResponse) -> Result<Response, Problem> {
    let idempotency::RecordedResponse { status, location, body } = kept;
    let unreadable = || Problem::internal("an answer kept for an Idempotency-Key can't be read");
    let status = StatusCode::from_u16(status).map_err(|_| unreadable())?;
    let mut response = if status.is_success() {
        let kept: StoredResponse = serde_json::from_str(&body).map_err(|_| unreadable())?;
        let body = Bytes::copy_from_slice(kept.answer.get().as_bytes());
        let answer = JsonResponse::from_bytes(status, location, body);
        kept.version.into_iter().fold(answer, JsonResponse::version).into_response()
    } else {
        let kept = serde_json::from_str(&body).map_err(|_| unreadable())?;
        Problem::from_stored(kept).ok_or_else(unreadable)?.into_response()
    };
    response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    Ok(response)
}
