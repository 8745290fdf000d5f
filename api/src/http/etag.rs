//! Entity tags (RFC 9110 §8.8.3): the version of what a response shows.

use http::HeaderValue;

/// Writes a version as a strong tag.
pub(crate) fn etag(version: i64) -> HeaderValue {
    // Quotes, a letter and digits are always a legal header value.
    HeaderValue::try_from(format!("\"v{version}\"")).unwrap_or(HeaderValue::from_static("\"v0\""))
}
