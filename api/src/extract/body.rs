//! JSON bodies: bounded in size and time, and every wrong field named by its JSON pointer.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::OwnedSemaphorePermit;

use super::{pointer, strict_object::StrictObject};
use crate::{
    http::{Problem, ProblemCode},
    load::Limits,
    state::ApiState,
};

/// A required body.
#[derive(Debug)]
pub(crate) struct JsonBody<T> {
    /// The decoded value.
    pub(crate) value: T,
    /// The bytes that were received; an `Idempotency-Key` is bound to them.
    pub(crate) bytes: Bytes,
}

/// A required body that may be large. Few such bodies are read at a time. The items of its [`super::RawItems`] are
/// decoded later, one by one.
#[derive(Debug)]
pub(crate) struct BulkJsonBody<T> {
    /// The decoded value.
    pub(crate) value: T,
    /// The bytes that were received; an `Idempotency-Key` is bound to them.
    pub(crate) bytes: Bytes,
    /// Held as long as the body is.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// An optional body.
#[derive(Debug)]
pub(crate) struct OptionalJsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let bytes = receive(request, state.limits()).await?;
        Ok(Self { value: parse(&bytes)?, bytes })
    }
}

impl<T: DeserializeOwned> FromRequest<ApiState> for BulkJsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let (bytes, permit) = receive_bulk(request, state).await?;
        Ok(Self { value: decode(&bytes)?, bytes, permit })
    }
}

impl<T: DeserializeOwned + Default> FromRequest<ApiState> for OptionalJsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        match receive_optional(request, state.limits()).await? {
            Some(bytes) => parse(&bytes).map(Self),
            None => Ok(Self(T::default())),
        }
    }
}

/// Receives a required body. Not generic, so that it is compiled once and not for every kind of body.
async fn receive(request: Request, limits: &Limits) -> Result<Bytes, Problem> {
    let (parts, body) = request.into_parts();
    require_json(&parts.headers)?;
    collect(&parts.headers, body, limits, limits.body_bytes).await
}

/// Receives a large body, with one of the permits for such bodies.
async fn receive_bulk(request: Request, state: &ApiState) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
    let (parts, body) = request.into_parts();
    require_json(&parts.headers)?;
    let permit = Arc::clone(state.bulk()).try_acquire_owned().map_err(|_| {
        Problem::new(ProblemCode::Overloaded, "too many large requests are running; try again in a moment")
    })?;
    let bytes = collect(&parts.headers, body, state.limits(), state.limits().bulk_body_bytes).await?;
    Ok((bytes, permit))
}

/// Receives an optional body; `None` when it is empty or `null`.
async fn receive_optional(request: Request, limits: &Limits) -> Result<Option<Bytes>, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = collect(&parts.headers, body, limits, limits.body_bytes).await?;
    if bytes.trim_ascii().is_empty() || bytes.trim_ascii() == b"null" {
        return Ok(None);
    }
    require_json(&parts.headers)?;
    Ok(Some(bytes))
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

async fn collect(headers: &HeaderMap, body: Body, limits: &Limits, max: usize) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(ProblemCode::BodyTooLarge, format!("a body has at max {max} bytes here"));
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    let all = Limited::new(body, max).collect();
    match tokio::time::timeout(limits.body_timeout, all).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Problem::new(ProblemCode::InvalidJson, format!("the body broke off: {error}"))),
        Err(_) => Err(Problem::new(
            ProblemCode::RequestTimeout,
            format!("the body was not complete after {} s", limits.body_timeout.as_secs_f32()),
        )),
    }
}

/// Decodes a body, or a part of one.
///
/// # Errors
/// A 400 when it is not JSON; a 422 with the pointer of the field when it does not fit the operation.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    refuse_nul(bytes)?;
    decode(bytes).or_else(|problem| {
        // Only in JSON: leaving out characters could make JSON of what is none.
        let is_json = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
        match is_json.then(|| without_empty_fractions(bytes)).flatten() {
            Some(plain) => decode(&plain).map_err(|_| problem),
            None => Err(problem),
        }
    })
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let StrictObject(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let place = pointer::of(error.path());
        let inner = error.inner();
        if inner.is_data() { pointer::data_problem(&place, &inner.to_string()) } else { not_json(inner) }
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

/// Writes `3.0` as `3`: JSON Schema takes both for the same integer, serde does not. `None` when there is no such
/// number.
fn without_empty_fractions(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(bytes.len());
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'.' && !in_string {
            let zeros = after.iter().take_while(|byte| **byte == b'0').count();
            let ends = !after.get(zeros).is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'e' | b'E'));
            if zeros > 0 && ends {
                rest = &after[zeros..];
                continue;
            }
        }
        in_string = if byte == b'"' && !escaped { !in_string } else { in_string };
        escaped = in_string && byte == b'\\' && !escaped;
        plain.push(byte);
        rest = after;
    }
    (plain.len() < bytes.len()).then_some(plain)
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::new(ProblemCode::InvalidJson, error.to_string())
}

/// Refuses U+0000, which PostgreSQL can store neither in text nor in jsonb. JSON can only write it escaped.
fn refuse_nul(bytes: &[u8]) -> Result<(), Problem> {
    if !bytes.windows(6).any(|window| window == br"\u0000") {
        return Ok(());
    }
    let value = serde_json::from_slice(bytes).map_err(|error| not_json(&error))?;
    match pointer::of_nul(&value) {
        Some(place) => Err(Problem::field(place, "nul", "the character U+0000 can't be stored")),
        // An escaped backslash before `u0000`, which is harmless.
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        #[expect(dead_code, reason = "only decoding matters here")]
        quantity: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[expect(dead_code, reason = "only decoding matters here")]
        items: Vec<StrictObject<Line>>,
    }

    fn problem(text: &str) -> serde_json::Value {
        let problem = parse::<Order>(text.as_bytes()).expect_err("it is wrong");
        let body = serde_json::to_value(problem.to_body("/", "t")).expect("plain data");
        json!([body["code"], body["errors"][0]["pointer"], body["errors"][0]["code"]])
    }

    #[test]
    fn wrong_fields_are_named_by_their_pointer() {
        assert_eq!(
            problem(r#"{"items":[{"quantity":1},{"quantity":"x"}]}"#),
            json!(["invalid-body", "/items/1/quantity", "invalid"])
        );
        assert_eq!(
            problem(r#"{"items":[{"quantity":1,"a/b":2}]}"#),
            json!(["invalid-body", "/items/0/a~1b", "unknown-field"])
        );
        assert_eq!(
            problem(r#"{"items":[{}]}"#),
            json!(["invalid-body", "/items/0/quantity", "missing-field"])
        );
        assert_eq!(
            problem(r#"{"items":[{"quantity":-1}]}"#),
            json!(["invalid-body", "/items/0/quantity", "invalid"])
        );
        assert_eq!(
            problem(r#"{"items":[{"quantity":1,"quantity":2}]}"#),
            json!(["invalid-body", "/items/0/quantity", "duplicate-field"])
        );
        assert_eq!(problem(r#"{"items":[[1]]}"#), json!(["invalid-body", "/items/0", "invalid"]));
        assert_eq!(problem("[[]]"), json!(["invalid-body", "", "invalid"]));
        assert_eq!(problem(r#"{"items":[],"x":"a\u0000b"}"#), json!(["invalid-body", "/x", "nul"]));
    }

    #[test]
    fn an_integer_may_have_an_empty_fraction() {
        for text in [r#"{"items":[{"quantity":3.0}]}"#, r#"{"items":[{"quantity":3.000 }]}"#] {
            assert!(parse::<Order>(text.as_bytes()).is_ok(), "{text}");
        }
        for text in [
            r#"{"items":[{"quantity":3.5}]}"#,
            r#"{"items":[{"quantity":3.0e1}]}"#,
            r#"{"items":[{"quantity":"3.0"}]}"#,
            r#"{"items":[{"quantity":3.0,"quantity":2}]}"#,
        ] {
            assert_eq!(problem(text)[0], json!("invalid-body"), "{text}");
        }
        let text = br#"{"a":"x\\\"1.0","b":1.00,"c":1.05}"#;
        assert_eq!(without_empty_fractions(text).unwrap(), br#"{"a":"x\\\"1.0","b":1,"c":1.05}"#);
        assert_eq!(without_empty_fractions(br#"{"a":"1.0"}"#), None);
    }

    #[test]
    fn what_is_not_json_is_a_400() {
        for text in [
            "",
            "{",
            "{\"items\":[]} x",
            "\u{0}",
            "{\"items\":1e999999}",
            "{\"items\":[]}.0",
            "{\"items\":[].0}",
        ] {
            assert_eq!(problem(text)[0], json!("invalid-json"), "{text:?}");
        }
        // Its first mistake is another one: the number is taken for a fraction before the rest is read.
        let fraction = r#"{"items":[{"quantity":3.0.0}]}"#;
        assert_eq!(problem(fraction), json!(["invalid-body", "/items/0/quantity", "invalid"]));
        let deep = "[".repeat(100_000);
        assert_eq!(problem(&format!("{{\"items\":{deep}"))[0], json!("invalid-body"));
    }
}
