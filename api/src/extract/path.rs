//! Path parameters.

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use uuid::Uuid;

use crate::http::{Problem, ProblemCode};

/// The id in the path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdPath(pub(crate) Uuid);

/// The name in the path.
#[derive(Clone, Debug)]
pub(crate) struct TextPath(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for IdPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (name, value) = only(parts, state).await?;
        // Only the hyphenated form: an id has one spelling.
        let id = Uuid::try_parse(&value)
            .ok()
            .filter(|id| value.len() == 36 && id.to_string() == value.to_ascii_lowercase());
        id.map(Self).ok_or_else(|| {
            let message = format!("`{name}` must be a UUID such as 0199f3a0-0000-7000-8000-000000000000");
            Problem::parameter(name, message)
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TextPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (name, value) = only(parts, state).await?;
        if value.contains('\0') || value.chars().count() > 128 {
            let message = format!("`{name}` must be at most 128 characters, none of them U+0000");
            return Err(Problem::parameter(name, message));
        }
        Ok(Self(value))
    }
}

async fn only<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<(String, String), Problem> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|error| Problem::new(ProblemCode::InvalidParameter, error.body_text()))?;
    let first = params.iter().next().map(|(name, value)| (name.to_owned(), value.to_owned()));
    first.ok_or_else(|| Problem::internal("a handler reads a path parameter that its route does not have"))
}
