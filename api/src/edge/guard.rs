//! Stands before every route: what has declared no role is not served.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};

use crate::{
    access::Needs,
    problem::{Code, Problem},
};

/// Serves what has declared a need; a path that is known but not with this method is a 405, and one that has declared
/// nothing is refused, because somebody forgot.
pub(crate) async fn guard(needs: Arc<Needs>, request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        // There is nothing at this path; the router says so.
        return next.run(request).await;
    };
    let Some(_need) = needs.of(path.as_str(), request.method()) else {
        return undeclared(&needs, path.as_str());
    };
    next.run(request).await
}

fn undeclared(needs: &Needs, path: &str) -> Response {
    let Some(allow) = needs.allow(path) else {
        return Problem::internal(format!("the route {path} has declared no role: it is not served"))
            .into_response();
    };
    let mut response = Problem::new(Code::MethodNotAllowed, Code::MethodNotAllowed.example()).into_response();
    if let Ok(allow) = HeaderValue::try_from(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
