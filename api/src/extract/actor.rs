//! The actor of a change, as it is recorded in the timelines of orders, the stock ledger and the audit log.

use std::{net::IpAddr, sync::Arc};

use axum::extract::FromRequestParts;
use http::{HeaderName, request::Parts};
use shop::{audit::AuditActor, keys::UsableKey};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::header::{documented_header, single};
use crate::{
    auth::Caller,
    http::{Problem, TraceId},
};

static X_ACTOR: HeaderName = HeaderName::from_static("x-actor");
const MAX_ACTOR_LEN: usize = 64;

/// The actor: `key:<name>` of the API key, followed by a slash and the value of `X-Actor`, if there is one. Where keys
/// are not needed it is the value of `X-Actor` alone.
#[derive(Debug)]
pub(crate) struct Actor {
    name: Option<String>,
    key: Option<Arc<UsableKey>>,
    address: Option<IpAddr>,
    trace_id: Option<Arc<str>>,
}

impl Actor {
    /// The name of the actor, or `default` when it is unknown.
    pub(crate) fn name_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(default)
    }

    /// The actor as the audit log records it, under the name `default` when it is unknown.
    pub(crate) fn audited_or<'a>(&'a self, default: &'a str) -> AuditActor<'a> {
        AuditActor {
            actor: self.name_or(default),
            key_id: self.key.as_deref().map(|key| key.key_id.as_str()),
            address: self.address,
            trace_id: self.trace_id.as_deref(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let stated = stated(parts)?;
        let Caller { key, address } = parts.extensions.get().cloned().unwrap_or_default();
        let name = match (&key, stated) {
            (None, stated) => stated,
            (Some(key), None) => Some(format!("key:{}", key.name)),
            (Some(key), Some(stated)) => Some(format!("key:{}/{stated}", key.name)),
        };
        let trace_id = parts.extensions.get::<TraceId>().map(|id| Arc::clone(&id.0));
        Ok(Self { name, key, address, trace_id })
    }
}

fn stated(parts: &Parts) -> Result<Option<String>, Problem> {
    let Some(text) = single(&parts.headers, &X_ACTOR, "X-Actor")? else { return Ok(None) };
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_ACTOR_LEN {
        return Err(Problem::header(
            "X-Actor",
            format!("`X-Actor` must be 1 to {MAX_ACTOR_LEN} visible characters"),
        ));
    }
    Ok(Some(text.into()))
}

impl IntoParams for Actor {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![documented_header(
            "X-Actor",
            "The person for whom the holder of the key acts, for timelines and the audit; 1 to 64 characters. It is recorded \
             after the name of the key, as in `key:backoffice/anna`",
            Some("anna"),
            r"^[!-~]([ -~]{0,62}[!-~])?$",
        )]
    }
}
