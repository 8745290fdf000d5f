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

/// The id in the path, and the name that follows it.
#[derive(Clone, Debug)]
pub(crate) struct IdNamePath(pub(crate) Uuid, pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for IdPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let [id] = values(parts, state).await?;
        id.id().map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TextPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let [text] = values(parts, state).await?;
        text.text().map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdNamePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let [id, name] = values(parts, state).await?;
        Ok(Self(id.id()?, name.text()?))
    }
}

/// A parameter in the path.
struct Parameter {
    name: String,
    value: String,
}

impl Parameter {
    fn id(self) -> Result<Uuid, Problem> {
        let Self { name, value } = self;
        // Only the hyphenated form: an id has one spelling.
        let id = Uuid::try_parse(&value)
            .ok()
            .filter(|id| value.len() == 36 && id.to_string() == value.to_ascii_lowercase());
        id.ok_or_else(|| {
            let message = format!("`{name}` must be a UUID such as 0199f3a0-0000-7000-8000-000000000000");
            Problem::parameter(name, message)
        })
    }

    fn text(self) -> Result<String, Problem> {
        let Self { name, value } = self;
        if value.contains('\0') || value.chars().count() > 128 {
            let message = format!("`{name}` must be at most 128 characters, none of them U+0000");
            return Err(Problem::parameter(name, message));
        }
        Ok(value)
    }
}

/// The parameters of the path, in order.
async fn values<S: Send + Sync, const N: usize>(
    parts: &mut Parts,
    state: &S,
) -> Result<[Parameter; N], Problem> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|error| Problem::new(ProblemCode::InvalidParameter, error.body_text()))?;
    let params: Vec<_> = params
        .iter()
        .take(N)
        .map(|(name, value)| Parameter { name: name.into(), value: value.into() })
        .collect();
    params
        .try_into()
        .map_err(|_| Problem::internal("a handler reads a path parameter that its route does not have"))
}
