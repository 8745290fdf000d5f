//! Who acts: kept in timelines, ledgers and audits.

use axum::extract::FromRequestParts;
use http::{HeaderName, request::Parts};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::{documented_header, single};
use crate::problem::Problem;

static X_ACTOR: HeaderName = HeaderName::from_static("x-actor");
const LONGEST: usize = 64;

/// The `X-Actor` header.
#[derive(Debug)]
pub(crate) struct Actor(Option<String>);

impl Actor {
    /// The actor, or who acts when none is named.
    pub(crate) fn or<'a>(&'a self, default: &'a str) -> &'a str {
        self.0.as_deref().unwrap_or(default)
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(text) = single(&parts.headers, &X_ACTOR, "X-Actor")? else { return Ok(Self(None)) };
        let text = text.trim();
        if text.is_empty() || text.len() > LONGEST {
            return Err(Problem::header(
                "X-Actor",
                format!("`X-Actor` must be 1 to {LONGEST} visible characters"),
            ));
        }
        Ok(Self(Some(text.into())))
    }
}

impl IntoParams for Actor {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![documented_header(
            "X-Actor",
            "Who acts, for timelines and audits; 1 to 64 characters",
            "anna@support",
            r"^[!-~]([ -~]{0,62}[!-~])?$",
        )]
    }
}
