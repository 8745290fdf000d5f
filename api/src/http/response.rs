//! JSON responses of handlers.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use super::{etag::etag, problem::Problem};

static PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A successful response with a JSON body.
#[derive(Clone, Debug)]
pub(crate) struct JsonResponse {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    pub(crate) body: Bytes,
    pub(crate) version: Option<i64>,
    preference_applied: Option<Duration>,
}

impl JsonResponse {
    /// Writes the body.
    ///
    /// # Errors
    /// A 500 when it can't be written as JSON.
    pub(crate) fn new(status: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body =
            serde_json::to_vec(body).map_err(|error| Problem::internal(format!("can't write: {error}")))?;
        Ok(Self::from_bytes(status, None, body.into()))
    }

    /// A response whose body is written already.
    pub(crate) fn from_bytes(status: StatusCode, location: Option<String>, body: Bytes) -> Self {
        Self { status, location, body, version: None, preference_applied: None }
    }

    /// A 200.
    pub(crate) fn ok(body: &impl Serialize) -> Result<Self, Problem> {
        Self::new(StatusCode::OK, body)
    }

    /// Sets another status.
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets `Location`.
    pub(crate) fn location(mut self, location: String) -> Self {
        self.location = Some(location);
        self
    }

    /// Sets the `ETag` of this version.
    pub(crate) fn version(mut self, version: i64) -> Self {
        self.version = Some(version);
        self
    }

    /// Sets `Preference-Applied` to the wait that was honoured.
    pub(crate) fn preference_applied(mut self, wait: Option<Duration>) -> Self {
        self.preference_applied = wait;
        self
    }
}

impl IntoResponse for JsonResponse {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(location) = self.location.and_then(|location| HeaderValue::try_from(location).ok()) {
            headers.insert(header::LOCATION, location);
        }
        if let Some(version) = self.version {
            headers.insert(header::ETAG, etag(version));
        }
        if let Some(applied) = self
            .preference_applied
            .and_then(|wait| HeaderValue::try_from(format!("wait={}", wait.as_secs())).ok())
        {
            headers.insert(PREFERENCE_APPLIED.clone(), applied);
        }
        (self.status, headers, self.body).into_response()
    }
}

/// A 304: the caller has this version already.
pub(crate) fn not_modified(version: i64) -> Response {
    (StatusCode::NOT_MODIFIED, [(header::ETAG, etag(version))]).into_response()
}
