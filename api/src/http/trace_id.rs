//! The id that finds a request in traces and logs.

use std::sync::Arc;

/// The id that finds a request in traces and logs; the outermost layer attaches it to every request.
#[derive(Clone, Debug)]
pub(crate) struct TraceId(pub(crate) Arc<str>);
