//! `Prefer: wait=N` (RFC 7240): holds the response until the saga has ended or is dead, for at most N seconds.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderName, request::Parts};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::header::lenient_header;
use crate::state::ApiState;

static PREFER: HeaderName = HeaderName::from_static("prefer");

/// The wait that the caller prefers, in seconds. Unknown and malformed preferences are ignored, as the RFC demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefer {
    wait_s: Option<u64>,
}

impl Prefer {
    /// Reads it from the headers.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let mut preferences = headers
            .get_all(&PREFER)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        let wait_s = preferences.find_map(|preference| {
            let (name, value) = preference.split(';').next()?.split_once('=')?;
            if !name.trim().eq_ignore_ascii_case("wait") {
                return None;
            }
            value.trim().trim_matches('"').parse().ok()
        });
        Self { wait_s }
    }

    /// How long to wait, with a permit to hold meanwhile. When too many requests wait already, this one does not wait,
    /// which the caller sees from the missing `Preference-Applied`: waiting requests must not displace working ones.
    pub(crate) fn wait_with_permit(
        self,
        state: &ApiState,
    ) -> (Option<Duration>, Option<OwnedSemaphorePermit>) {
        let Some(wait) = self.wait(state.limits().max_wait) else { return (None, None) };
        match Arc::clone(state.waits()).try_acquire_owned() {
            Ok(permit) => (Some(wait), Some(permit)),
            Err(_) => (None, None),
        }
    }

    /// How long to wait, at most `max`; `None` without a preference.
    pub(crate) fn wait(self, max: Duration) -> Option<Duration> {
        self.wait_s.map(|seconds| Duration::from_secs(seconds).min(max))
    }
}

impl<S: Sync> FromRequestParts<S> for Prefer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::from_headers(&parts.headers))
    }
}

impl IntoParams for Prefer {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "`wait=N`: holds the response until the workflow has ended or needs an operator, for N seconds at most, and never longer than 30; other \
             preferences are ignored";
        vec![lenient_header("Prefer", description, Some("wait=5"))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(values: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&PREFER, value.parse().expect("a header"));
        }
        Prefer::from_headers(&headers).wait(Duration::from_secs(30)).map(|wait| wait.as_secs())
    }

    #[test]
    fn the_wait_is_found_among_other_preferences_and_capped() {
        assert_eq!(wait(&["wait=5"]), Some(5));
        assert_eq!(wait(&["respond-async, Wait = \"7\"; x=y"]), Some(7));
        assert_eq!(wait(&["return=minimal", "wait=9, wait=1"]), Some(9));
        assert_eq!(wait(&["wait=3600"]), Some(30));
        for ignored in ["", "wait", "wait=x", "wait=-1", "waits=3", "wait=1.5"] {
            assert_eq!(wait(&[ignored]), None, "{ignored}");
        }
    }
}
