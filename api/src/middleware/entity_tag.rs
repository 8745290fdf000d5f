//! Gives large responses an `ETag`, so that a caller who asks again learns in a few bytes that nothing has changed.

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use super::compress::LARGE_BYTES;
use crate::http::{Problem, body_etag, names};

/// Answers a GET with a large body that the caller has already (`If-None-Match`) with a 304.
pub(crate) async fn entity_tag(request: Request, next: Next) -> Response {
    if *request.method() != Method::GET {
        return next.run(request).await;
    }
    let seen: Vec<HeaderValue> = request.headers().get_all(header::IF_NONE_MATCH).iter().cloned().collect();
    let response = next.run(request).await;
    // A stream of events has no size. Resources with a version have a tag of their own.
    let is_large = response.body().size_hint().exact().is_some_and(|size| size >= LARGE_BYTES.into());
    if !is_large || response.status() != StatusCode::OK || response.headers().contains_key(header::ETAG) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // It is in memory already.
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Problem::internal(error.to_string()).into_response(),
    };
    let tag = body_etag(&body);
    if names(&seen, &tag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    parts.headers.insert(header::ETAG, tag);
    Response::from_parts(parts, Body::from(body))
}
