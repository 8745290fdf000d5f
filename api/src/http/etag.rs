//! Entity tags (RFC 9110 §8.8.3): the version of what a response shows, or a hash of a large body.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::HeaderValue;
use sha2::{Digest, Sha256};

/// Writes a version as a strong tag.
pub(crate) fn etag(version: i64) -> HeaderValue {
    // Quotes, a letter and digits are always a legal header value.
    HeaderValue::try_from(format!("\"v{version}\"")).unwrap_or(HeaderValue::from_static("\"v0\""))
}

/// Makes a tag of a body. It is weak, because the body may be sent compressed, too.
pub(crate) fn body_etag(body: &[u8]) -> HeaderValue {
    let hash = BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(body)[..18]);
    // Letters, digits, `-`, `_` and quotes are always a legal header value.
    HeaderValue::try_from(format!("W/\"{hash}\"")).unwrap_or(HeaderValue::from_static("W/\"\""))
}

/// Whether values of `If-None-Match` name this tag (the weak comparison).
pub(crate) fn names(conditions: &[HeaderValue], tag: &HeaderValue) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let wanted = tag.to_str().map(opaque).unwrap_or_default();
    let seen = conditions.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    seen.map(opaque).any(|seen| seen == "*" || seen == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_recognised_by_its_tag() {
        let tag = body_etag(b"tea");
        let text = tag.to_str().expect("ascii");
        assert!(text.starts_with("W/\"") && text.len() == 28, "{text}");
        let names = |seen: &str| names(&[seen.parse().expect("a header")], &tag);
        for same in [text, &text[2..], "*", &format!("\"v3\", {text}")] {
            assert!(names(same), "{same}");
        }
        for other in ["\"v3\"", "", body_etag(b"coffee").to_str().expect("ascii")] {
            assert!(!names(other), "{other}");
        }
    }
}
