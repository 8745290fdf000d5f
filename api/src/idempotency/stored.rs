//! How an answer is stored for its `Idempotency-Key`, and read back.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shop::idempotency::RecordedResponse;

use super::key_finisher::Finish;
use crate::http::{JsonResponse, Problem};

static REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The stored form of a success.
#[derive(Serialize, Deserialize)]
struct StoredResponse {
    version: Option<i64>,
    answer: Box<RawValue>,
}

/// Converts a success into the form in which it is stored.
///
/// # Errors
/// A 500 when its body is not JSON.
pub(super) fn stored_success(response: &JsonResponse) -> Result<RecordedResponse, Problem> {
    let broken = |error: serde_json::Error| Problem::internal(format!("an answer can't be stored: {error}"));
    let raw: &RawValue = serde_json::from_slice(&response.body).map_err(broken)?;
    let stored = StoredResponse { version: response.version, answer: raw.to_owned() };
    let body = serde_json::to_string(&stored).map_err(broken)?;
    Ok(RecordedResponse { status: response.status.as_u16(), location: response.location.clone(), body })
}

/// Converts a problem into the form in which it is stored; a failure of ours (5xx) releases the key instead.
pub(super) fn stored_problem(problem: &Problem) -> Finish {
    let status = problem.code().status().as_u16();
    problem.to_stored().map_or(Finish::Release, |stored| {
        Finish::Store(RecordedResponse { status, location: None, body: stored.to_string() })
    })
}

/// Answers with a stored response, marked as a replay.
///
/// # Errors
/// The stored problem, if it is one; a 500 when it can't be read.
pub(super) fn replay(answer: RecordedResponse) -> Result<Response, Problem> {
    let RecordedResponse { status, location, body } = answer;
    let unreadable = || Problem::internal("an answer stored for an Idempotency-Key can't be read");
    let status = StatusCode::from_u16(status).map_err(|_| unreadable())?;
    let mut response = if status.is_success() {
        let stored: StoredResponse = serde_json::from_str(&body).map_err(|_| unreadable())?;
        let body = Bytes::copy_from_slice(stored.answer.get().as_bytes());
        let response = JsonResponse::from_bytes(status, location, body);
        stored.version.into_iter().fold(response, JsonResponse::version).into_response()
    } else {
        let stored = serde_json::from_str(&body).map_err(|_| unreadable())?;
        Problem::from_stored(stored).ok_or_else(unreadable)?.into_response()
    };
    response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    Ok(response)
}
