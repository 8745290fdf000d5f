//! Receives bodies, which are bounded in size, in time, and in the memory that all of them take.

use std::sync::Arc;

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    http::{Problem, ProblemCode},
    load::{ByteBudget, HeldBytes, Limits},
    state::ApiState,
};

/// What a large body holds: its place among those that are worked on, and its bytes.
#[derive(Debug)]
#[expect(dead_code, reason = "they are held, not used")]
pub(crate) struct BulkPermits(OwnedSemaphorePermit, HeldBytes);

/// Receives a required body. Not generic, so that it is compiled once and not for every kind of body.
pub(super) async fn receive(request: Request, state: &ApiState) -> Result<(Bytes, HeldBytes), Problem> {
    let (parts, body) = request.into_parts();
    require_json(&parts.headers)?;
    require_identity(&parts.headers)?;
    collect(&parts.headers, body, state.limits(), Room::of_any(state)).await
}

/// Receives a large body. Its place among those that are worked on is taken once it is there, so that a caller who sends
/// slowly keeps no other from it.
pub(super) async fn receive_bulk(
    request: Request,
    state: &ApiState,
) -> Result<(Bytes, BulkPermits), Problem> {
    let (parts, body) = request.into_parts();
    require_json(&parts.headers)?;
    require_identity(&parts.headers)?;
    let (bytes, held) = collect(&parts.headers, body, state.limits(), Room::of_bulk(state)).await?;
    let permit = Arc::clone(state.bulk()).try_acquire_owned().map_err(|_| {
        Problem::new(ProblemCode::Overloaded, "too many large requests are running; try again in a moment")
    })?;
    Ok((bytes, BulkPermits(permit, held)))
}

/// Receives an optional body; `None` when it is empty or `null`.
pub(super) async fn receive_optional(
    request: Request,
    state: &ApiState,
) -> Result<Option<(Bytes, HeldBytes)>, Problem> {
    let (parts, body) = request.into_parts();
    require_identity(&parts.headers)?;
    let (bytes, held) = collect(&parts.headers, body, state.limits(), Room::of_any(state)).await?;
    if bytes.trim_ascii().is_empty() || bytes.trim_ascii() == b"null" {
        return Ok(None);
    }
    require_json(&parts.headers)?;
    Ok(Some((bytes, held)))
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let declared =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(Problem::new(ProblemCode::UnsupportedMediaType, "send `Content-Type: application/json`"))
}

/// Refuses encoded bodies, whatever the coding: a small one could become a very large one.
fn require_identity(headers: &HeaderMap) -> Result<(), Problem> {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings =
        codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    if codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    Err(Problem::example(ProblemCode::UnsupportedContentEncoding))
}

/// How large a body may be, and what all bodies of its kind may hold together.
struct Room<'a> {
    max: usize,
    budget: &'a ByteBudget,
}

impl<'a> Room<'a> {
    fn of_any(state: &'a ApiState) -> Self {
        Self { max: state.limits().body_bytes, budget: state.request_bytes() }
    }

    fn of_bulk(state: &'a ApiState) -> Self {
        Self { max: state.limits().bulk_body_bytes, budget: state.bulk_request_bytes() }
    }
}

async fn collect(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
    room: Room<'_>,
) -> Result<(Bytes, HeldBytes), Problem> {
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > room.max as u64) {
        return Err(room.too_large());
    }
    let Ok(collected) = tokio::time::timeout(limits.body_timeout, room.collect(body)).await else {
        let seconds = limits.body_timeout.as_secs_f32();
        let detail = format!("the body was not complete after {seconds} s");
        return Err(Problem::new(ProblemCode::RequestTimeout, detail));
    };
    collected
}

impl Room<'_> {
    /// Collects a body. It holds the bytes that have arrived, not those that are announced.
    async fn collect(&self, body: Body) -> Result<(Bytes, HeldBytes), Problem> {
        let mut body = Limited::new(body, self.max);
        let (mut bytes, mut held) = (Vec::new(), self.budget.hold());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    return self.too_large();
                }
                Problem::new(ProblemCode::InvalidJson, format!("the body broke off: {error}"))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            held.add(data.len())?;
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.into(), held))
    }

    fn too_large(&self) -> Problem {
        Problem::new(ProblemCode::BodyTooLarge, format!("a body has at max {} bytes here", self.max))
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, pin::pin};

    use futures::{StreamExt, poll, stream};

    use super::*;

    fn code(received: Result<(Bytes, HeldBytes), Problem>) -> Option<ProblemCode> {
        received.err().map(|problem| problem.code())
    }

    #[test]
    fn only_bodies_without_a_coding_are_taken() {
        let received = |values: &[&'static str]| {
            let values =
                values.iter().map(|value| (header::CONTENT_ENCODING, value.parse().expect("a header")));
            require_identity(&values.collect())
        };
        for taken in [&[][..], &[""], &["identity"], &["Identity, identity"]] {
            assert!(received(taken).is_ok(), "{taken:?}");
        }
        for refused in [&["gzip"][..], &["identity, br"], &["identity", "deflate"], &["x-unknown"]] {
            let code = received(refused).expect_err("it is encoded").code();
            assert_eq!(code, ProblemCode::UnsupportedContentEncoding, "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_body_holds_the_bytes_that_have_arrived_until_it_is_dropped() {
        let budget = ByteBudget::new(100);
        let room = || Room { max: 80, budget: &budget };
        let whole = |bytes: usize| Body::from(vec![b' '; bytes]);
        {
            let begun = stream::iter([Ok::<_, Infallible>(Bytes::from_static(&[b' '; 60]))]);
            let room_of_slow = room();
            let mut slow = pin!(room_of_slow.collect(Body::from_stream(begun.chain(stream::pending()))));
            assert!(poll!(slow.as_mut()).is_pending(), "the rest does not come");
            assert_eq!(code(room().collect(whole(41)).await), Some(ProblemCode::Overloaded));
            assert_eq!(code(room().collect(whole(40)).await), None);
        }
        let held = room().collect(whole(80)).await;
        assert_eq!(code(room().collect(whole(41)).await), Some(ProblemCode::Overloaded));
        drop(held);
        assert_eq!(code(room().collect(whole(80)).await), None);
        assert_eq!(code(room().collect(whole(81)).await), Some(ProblemCode::BodyTooLarge));
    }
}
