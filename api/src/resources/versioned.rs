//! Resources with a version: how one is read, changed under the condition of `If-Match`, and returned with its `ETag`.

use std::fmt::Display;

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use shop::ChangeError;

use crate::{
    extract::{IfMatch, IfNoneMatch},
    http::{JsonResponse, Problem, invalid},
    state::ApiState,
};

/// A resource with a version, which is its `ETag`.
pub(super) trait Versioned: Sized {
    /// What the resource is called in problems.
    const NOUN: &'static str;
    /// The id by which the resource is found.
    type Id: Display + ?Sized;
    /// The JSON body of the resource.
    type Body: From<Self> + Serialize;

    /// The current version of the resource, for its `ETag`.
    fn version(&self) -> i64;

    /// Reads the resource with this id, if there is one.
    fn find(
        state: &ApiState,
        id: &Self::Id,
    ) -> impl Future<Output = Result<Option<Self>, sqlx::Error>> + Send;
}

/// Reads a resource.
///
/// # Errors
/// A 404 when there is none with this id.
pub(super) async fn load<T: Versioned>(state: &ApiState, id: &T::Id) -> Result<T, Problem> {
    T::find(state, id).await?.ok_or_else(|| Problem::not_found(T::NOUN, id))
}

/// Answers with a resource and its `ETag`.
///
/// # Errors
/// A 500 when its JSON can't be written.
pub(super) fn respond<T: Versioned>(status: StatusCode, resource: T) -> Result<JsonResponse, Problem> {
    let version = resource.version();
    Ok(JsonResponse::new(status, &T::Body::from(resource))?.version(version))
}

/// Answers with a resource, or with a 304 when the caller has this version already.
///
/// # Errors
/// A 404 when there is none with this id.
pub(super) async fn read<T: Versioned>(
    state: &ApiState,
    id: &T::Id,
    seen: IfNoneMatch,
) -> Result<Response, Problem> {
    let resource: T = load(state, id).await?;
    seen.respond(resource.version(), || T::Body::from(resource))
}

/// Changes a resource if its version meets the condition, and answers with the resource as it is then. `change` gets
/// the version that has to be current when it is made, if the condition names one.
///
/// # Errors
/// A 412 when the condition is not met; the problem of the change.
pub(super) async fn change<T: Versioned, E>(
    state: &ApiState,
    id: &T::Id,
    condition: IfMatch,
    change: impl AsyncFnOnce(Option<i64>) -> Result<T, ChangeError<E>>,
) -> Result<JsonResponse, Problem>
where
    E: std::error::Error + Into<Problem> + 'static,
{
    let current = async || Ok(load::<T>(state, id).await?.version());
    let expected = condition.expected_version(current).await?;
    let changed = change(expected).await.map_err(|error| match error {
        ChangeError::NotFound => Problem::not_found(T::NOUN, id),
        ChangeError::VersionMismatch { current } => IfMatch::failed(Some(current)),
        ChangeError::Invalid(violations) => invalid(violations),
        ChangeError::Refused(refusal) => refusal.into(),
        ChangeError::Database(error) => error.into(),
    })?;
    respond(StatusCode::OK, changed)
}
