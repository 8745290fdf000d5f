//! GET `/openapi.json`, and Swagger UI at `/docs`, from files inside the binary.

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::header;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// The paths of [`routes`], which are not in the OpenAPI document.
pub(crate) const PATHS: [&str; 4] = ["/openapi.json", "/docs", "/docs/", "/docs/{*rest}"];

/// Serves the OpenAPI document, and Swagger UI over it.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(document: String) -> Router<S> {
    let document = Bytes::from(document);
    let openapi = get(async move || json(document));
    let ui = SwaggerUi::new("/docs").config(Config::from("/openapi.json").try_it_out_enabled(true));
    Router::new().route("/openapi.json", openapi).merge(Router::from(ui))
}

fn json(document: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}
