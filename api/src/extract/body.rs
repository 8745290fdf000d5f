//! JSON bodies, in which every wrong field is named by its JSON pointer.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use engine::json_pointer;
use serde::de::DeserializeOwned;

use super::{
    json, pointer,
    receive::{BulkPermits, receive, receive_bulk, receive_optional},
    strict_object::StrictObject,
};
use crate::{http::Problem, load::HeldBytes, state::ApiState};

/// A required body.
#[derive(Debug)]
pub(crate) struct JsonBody<T> {
    /// The decoded value.
    pub(crate) value: T,
    /// The bytes that were received; an `Idempotency-Key` is bound to them.
    pub(crate) bytes: Bytes,
    _held: HeldBytes,
}

/// A required body that may be large. Few such bodies are worked on at a time. The items of its [`super::RawItems`] are
/// decoded later, one by one.
#[derive(Debug)]
pub(crate) struct BulkJsonBody<T> {
    /// The decoded value.
    pub(crate) value: T,
    /// The bytes that were received; an `Idempotency-Key` is bound to them.
    pub(crate) bytes: Bytes,
    /// Held as long as the body is.
    pub(crate) permits: BulkPermits,
}

/// An optional body.
#[derive(Debug)]
pub(crate) struct OptionalJsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let (bytes, held) = receive(request, state).await?;
        Ok(Self { value: parse(&bytes)?, bytes, _held: held })
    }
}

impl<T: DeserializeOwned> FromRequest<ApiState> for BulkJsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let (bytes, permits) = receive_bulk(request, state).await?;
        Ok(Self { value: decode_unread(&bytes)?, bytes, permits })
    }
}

impl<T: DeserializeOwned + Default> FromRequest<ApiState> for OptionalJsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        match receive_optional(request, state).await? {
            Some((bytes, _held)) => parse(&bytes).map(Self),
            None => Ok(Self(T::default())),
        }
    }
}

/// Reads a body, or a part of one, by the rules of [`json`], and decodes it.
///
/// # Errors
/// A 400 when it is not JSON; a 422 with the pointer of the field when it does not fit the operation.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let StrictObject(value) =
        serde_path_to_error::deserialize(json::read(bytes)?).map_err(|error| misfit(&error))?;
    Ok(value)
}

/// Decodes a body whose parts are read later, each by [`parse`].
fn decode_unread<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let StrictObject(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        if error.inner().is_data() { misfit(&error) } else { json::not_json(error.inner()) }
    })?;
    json.end().map_err(|error| json::not_json(&error))?;
    Ok(value)
}

/// The problem for JSON that is not of the type.
fn misfit(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    pointer::data_problem(&json_pointer(error.path()), &error.inner().to_string())
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
        for number in ["3.0", "3.000 ", "3.0e1"] {
            let text = format!(r#"{{"items":[{{"quantity":{number}}}]}}"#);
            assert!(parse::<Order>(text.as_bytes()).is_ok(), "{text}");
        }
        for number in ["3.5", "\"3.0\"", "1e30"] {
            let text = format!(r#"{{"items":[{{"quantity":{number}}}]}}"#);
            assert_eq!(problem(&text), json!(["invalid-body", "/items/0/quantity", "invalid"]), "{text}");
        }
    }

    #[test]
    fn a_body_whose_parts_are_read_later_is_json_too() {
        let code =
            |text: &str| decode_unread::<Order>(text.as_bytes()).expect_err("it is wrong").code().name();
        for text in ["", "{", "{\"items\":[]} x", "{\"items\":[]}.0", "\u{0}"] {
            assert_eq!(code(text), "invalid-json", "{text:?}");
        }
        for text in ["[]", r#"{"items":[],"items":[]}"#, r#"{"items":1}"#, "{}"] {
            assert_eq!(code(text), "invalid-body", "{text}");
        }
    }
}
