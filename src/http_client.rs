//! A small HTTP client over plain TCP, for `health`, `demo`, `bench` and the export of traces.
//!
//! The binary calls only its own processes and a trace collector, so HTTP/1.1 without TLS, redirects, cookies and
//! proxies is enough. hyper offers that, and a larger client would only add to the build.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde_json::Value;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Sends requests and reuses their connections; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    timeout: Duration,
}

impl HttpClient {
    /// Creates a client whose requests may take `timeout` each, including the answer.
    pub(crate) fn new(timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Self { client, timeout }
    }

    /// Sends a GET.
    ///
    /// # Errors
    /// As [`HttpClient::send`], and when `url` is invalid.
    pub(crate) async fn get(&self, url: &str) -> anyhow::Result<Response<Bytes>> {
        self.send(request(Method::GET, url)?).await
    }

    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// When there is no connection, no whole answer in time, or one above 64 MiB.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
        let exchange = async {
            let (parts, body) = self.client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(anyhow::Error::from_boxed)?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        let limit = self.timeout;
        tokio::time::timeout(limit, exchange).await.with_context(|| format!("no answer in {limit:?}"))?
    }
}

/// Builds a request without a body.
///
/// # Errors
/// When `url` is invalid.
pub(crate) fn request(method: Method, url: &str) -> anyhow::Result<Request<Bytes>> {
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = method;
    *request.uri_mut() = url.parse::<Uri>()?;
    Ok(request)
}

/// Builds a request with a JSON body.
///
/// # Errors
/// When `url` is invalid.
pub(crate) fn json_request(method: Method, url: &str, body: &Value) -> anyhow::Result<Request<Bytes>> {
    let mut request = request(method, url)?;
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *request.body_mut() = body.to_string().into();
    Ok(request)
}

/// The body of an answer as text.
///
/// # Errors
/// When it is not UTF-8.
pub(crate) fn text(answer: &Response<Bytes>) -> anyhow::Result<&str> {
    Ok(std::str::from_utf8(answer.body())?)
}
