//! The `Idempotency-Key` header.

use axum::extract::FromRequestParts;
use http::{HeaderName, request::Parts};
use shop::idempotency::MAX_KEY_LEN;
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::header::{documented_header, single};
use crate::{auth::Caller, http::Problem, idempotency::IdempotencyKey};

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller: Option<&Caller> = parts.extensions.get();
        let holder = caller.and_then(|caller| Some(caller.key.as_deref()?.name.clone()));
        let Some(text) = single(&parts.headers, &IDEMPOTENCY_KEY, "Idempotency-Key")? else {
            return Ok(Self { key: None, holder });
        };
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_KEY_LEN {
            let message = format!("`Idempotency-Key` must be 1 to {MAX_KEY_LEN} visible characters");
            return Err(Problem::header("Idempotency-Key", message));
        }
        Ok(Self { key: Some(text.into()), holder })
    }
}

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = format!(
            "Makes it safe to send the request again for 24 hours: the first response is returned again. A new value for each \
             new request, such as a random UUID; 1 to {MAX_KEY_LEN} characters"
        );
        let pattern = format!("^[!-~]([ -~]{{0,{}}}[!-~])?$", MAX_KEY_LEN - 2);
        vec![documented_header("Idempotency-Key", &description, None, &pattern)]
    }
}
