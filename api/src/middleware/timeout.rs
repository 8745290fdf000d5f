//! Runs each request in a task of its own, with a time-out, and turns panics into problems.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::Instrument;

use crate::{
    extract::Prefer,
    http::{Problem, ProblemCode},
    state::ApiState,
};

/// Runs the request in a task of its own, because neither a caller who hangs up nor a time-out may drop a future in the
/// middle of a query: sqlx would lose the permit of a connection that is silently dead. What keeps running is bounded
/// by the server's `statement_timeout` and counted by [`super::load_shed`].
pub(crate) async fn timeout(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let limits = state.limits();
    let wait = Prefer::from_headers(request.headers()).wait(limits.max_wait).unwrap_or_default();
    let limit = limits.request_timeout + wait;
    let work = tokio::spawn(next.run(request).in_current_span());
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => Problem::internal(describe_panic(error)).into_response(),
        Err(_) => Problem::new(
            ProblemCode::Timeout,
            format!(
                "there was no answer within {} s; what was asked for may still happen",
                limit.as_secs_f32()
            ),
        )
        .into_response(),
    }
}

fn describe_panic(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => {
            let message = panic.downcast_ref::<&str>().map(ToString::to_string);
            let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
            format!("panicked: {}", message.unwrap_or_else(|| "with a value that is no text".into()))
        }
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{Router, body::Body, middleware, routing::get};
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::super::trace::trace;
    use super::*;
    use crate::load::Limits;

    /// Two handlers that misbehave, behind the layers that have to handle it. The database is not used.
    fn router() -> Router {
        let limits = Limits { request_timeout: Duration::from_millis(20), ..Limits::default() };
        let state = ApiState::bare(limits);
        Router::new()
            .route("/panic", get(async || -> () { panic!("secret reasons") }))
            .route("/slow", get(async || std::future::pending::<()>().await))
            .layer(middleware::from_fn_with_state(state.clone(), timeout))
            .layer(middleware::from_fn_with_state(state, trace))
    }

    async fn ask(path: &str) -> (u16, Value) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = router().oneshot(request).await.expect("routers do not fail");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_hides_its_cause() {
        let (status, problem) = ask("/panic").await;
        assert_eq!((status, &problem["code"]), (500, &Value::from("internal")));
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_a_503() {
        let (status, problem) = ask("/slow").await;
        assert_eq!((status, &problem["code"]), (503, &Value::from("timeout")));
    }
}
