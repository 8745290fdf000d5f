//! Gives every request a span, a trace id and metrics, logs each one that fails, and renders problems.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tracing::{
    Instrument, Span,
    field::{self, Empty},
};
use uuid::Uuid;

use crate::{
    http::{Problem, ProblemCode, TraceId, cut},
    metrics,
    state::ApiState,
};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost layer: sees every request first and every response last.
pub(crate) async fn trace(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = label(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!(
        "http.request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        http.method = method,
        http.route = route,
        http.status = Empty,
        trace.id = Empty,
    );
    let parent = request.headers().get(&TRACEPARENT).and_then(|value| value.to_str().ok());
    let parent = parent.filter(|parent| is_traceparent(parent));
    if let Some(parent) = parent {
        state.trace_propagator().adopt(&span, parent);
    }
    let trace_id = trace_id(&state, &span, parent);
    span.record("trace.id", field::display(&trace_id));

    request.extensions_mut().insert(TraceId(trace_id.as_str().into()));
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.status", response.status().as_u16());
    let mut response = span.in_scope(|| render_problem(response, &path, &trace_id));
    if let Ok(value) = HeaderValue::from_str(&trace_id) {
        response.headers_mut().insert(X_REQUEST_ID.clone(), value);
    }
    if state.shutdown().is_draining() {
        // The next request goes over a new connection, which the load balancer opens to another process.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    metrics::record_request(method, route, response.status(), started.elapsed());
    response
}

/// Renders a problem, and makes problems of axum's own bare 404 and 405.
fn render_problem(mut response: Response, path: &str, trace_id: &str) -> Response {
    let problem = response.extensions_mut().remove::<Problem>().or_else(|| match response.status() {
        StatusCode::NOT_FOUND => Some(Problem::example(ProblemCode::NoSuchRoute)),
        StatusCode::METHOD_NOT_ALLOWED => Some(Problem::example(ProblemCode::MethodNotAllowed)),
        _ => None,
    });
    log_failure(response.status(), problem.as_ref(), path);
    let Some(problem) = problem else { return response };
    problem.render(path, trace_id, std::mem::take(response.headers_mut()))
}

/// Logs a request that failed, in one line; the span has its trace id, which the caller has as well.
fn log_failure(status: StatusCode, problem: Option<&Problem>, path: &str) {
    if !status.is_client_error() && !status.is_server_error() {
        return;
    }
    let path = cut(path.into());
    let (code, cause) = (problem.map(|problem| problem.code().name()), problem.and_then(Problem::cause));
    if problem.is_some_and(|problem| problem.code() == ProblemCode::Internal) {
        tracing::error!(code, cause, http.path = path, "a request failed");
    } else if status.is_server_error() {
        tracing::warn!(code, cause, http.path = path, "a request could not be served");
    } else {
        tracing::info!(code, cause, http.path = path, "a request was refused");
    }
}

/// The id of the exported trace, else of the caller's trace, else a new one.
fn trace_id(state: &ApiState, span: &Span, parent: Option<&str>) -> String {
    let current = span.in_scope(|| state.trace_propagator().current());
    let id = current.as_deref().or(parent).and_then(|parent| parent.split('-').nth(1));
    id.map_or_else(|| Uuid::now_v7().simple().to_string(), ToOwned::to_owned)
}

/// `version-trace-parent-flags` in lower-case hex, neither id zero (W3C Trace Context §3.2).
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let parts: Vec<_> = text.split('-').collect();
    let [version, trace, parent, flags] = parts.as_slice() else { return false };
    hex(version, 2)
        && *version != "ff"
        && hex(trace, 32)
        && hex(parent, 16)
        && hex(flags, 2)
        && [trace, parent].iter().all(|id| id.bytes().any(|byte| byte != b'0'))
}

/// The metrics label of a method. Callers choose methods freely, so unknown ones share a label.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_traceparent_is_adopted() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(wrong), "{wrong}");
        }
    }
}
