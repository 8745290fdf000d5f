//! Counts and times requests.

use std::time::Duration;

use http::StatusCode;
use metrics::{counter, histogram};

use super::names::{HTTP_DURATION, HTTP_REQUESTS};

/// Records one answered request.
pub(crate) fn record_request(method: &'static str, route: &str, status: StatusCode, took: Duration) {
    let status = status.as_str().to_owned();
    counter!(HTTP_REQUESTS, "method" => method, "route" => route.to_owned(), "status" => status).increment(1);
    histogram!(HTTP_DURATION, "method" => method, "route" => route.to_owned()).record(took);
}
