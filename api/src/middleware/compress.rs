//! Compresses large responses for callers that accept it.

use http::header;
use tower_http::{
    CompressionLevel,
    compression::{
        CompressionLayer, Predicate,
        predicate::{And, NotForContentType, SizeAbove},
    },
};

/// From how many bytes on a response is large: a smaller one gains less than it costs.
pub(super) const LARGE_BYTES: u16 = 8 * 1024;

/// The responses that are compressed: large ones but streams of events, and images, which are compressed already.
type Compressed = And<And<And<SizeAbove, NotForContentType>, NotForContentType>, IsNotStronglyTagged>;

/// Compresses large responses (gzip).
pub(crate) fn compress() -> CompressionLayer<Compressed> {
    let compressed = SizeAbove::new(LARGE_BYTES)
        .and(NotForContentType::SSE)
        .and(NotForContentType::IMAGES)
        .and(IsNotStronglyTagged);
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(compressed)
}

/// A strong `ETag` says that the body is the same byte for byte, so such a body is sent as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IsNotStronglyTagged;

impl Predicate for IsNotStronglyTagged {
    fn should_compress<B>(&self, response: &http::Response<B>) -> bool
    where
        B: hyper::body::Body,
    {
        let tag = response.headers().get(header::ETAG);
        tag.is_none_or(|tag| tag.as_bytes().starts_with(b"W/"))
    }
}
