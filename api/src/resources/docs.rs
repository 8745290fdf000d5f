//! GET `/openapi.json`, Swagger UI at `/docs`, from files inside the binary, and a page at `/` that leads there.

use axum::{
    Router,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::http::{body_etag, names};

/// The paths of [`routes`], which are not in the OpenAPI document.
pub(crate) const PATHS: [&str; 5] = ["/", "/openapi.json", "/docs", "/docs/", "/docs/{*rest}"];

const HOME: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>Sagaline</title>
<h1>Sagaline</h1>
<p>This is an API: see <a href=\"/docs/\">its documentation</a>, the <a href=\"/openapi.json\">OpenAPI document</a>
and its <a href=\"/health\">health</a>.</p>
</html>
";

/// Serves the OpenAPI document, Swagger UI over it, and the page that leads there.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(document: String) -> Router<S> {
    let document = Document { etag: body_etag(document.as_bytes()), json: document.into() };
    let openapi = get(async move |headers: HeaderMap| document.respond(&headers));
    let ui = SwaggerUi::new("/docs").config(Config::from("/openapi.json").try_it_out_enabled(true));
    let home = get(async || Html(HOME));
    Router::new().route("/", home).route("/openapi.json", openapi).merge(Router::from(ui))
}

/// The OpenAPI document and its tag.
#[derive(Clone)]
struct Document {
    json: Bytes,
    etag: HeaderValue,
}

impl Document {
    fn respond(self, headers: &HeaderMap) -> Response {
        let seen: Vec<_> = headers.get_all(header::IF_NONE_MATCH).iter().cloned().collect();
        let tag = [(header::ETAG, self.etag.clone())];
        if names(&seen, &self.etag) {
            return (StatusCode::NOT_MODIFIED, tag).into_response();
        }
        (tag, [(header::CONTENT_TYPE, "application/json")], self.json).into_response()
    }
}
