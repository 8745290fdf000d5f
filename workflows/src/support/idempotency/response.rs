//! The entry of an idempotency key.

use std::time::Duration;

use uuid::Uuid;

/// The longest key, in characters.
pub const MAX_KEY_LEN: usize = 255;

/// How long a response is stored.
pub const RETENTION: Duration = Duration::from_hours(24);

/// A request that is in flight for longer than this counts as lost, and another request may take it over.
pub const IN_FLIGHT_TIMEOUT: Duration = Duration::from_mins(1);

/// How to continue with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Carry the request out.
    Fresh {
        /// The id for the resource that the request creates. A request that takes over a lost one gets the same id, so
        /// that together they create one resource.
        resource_id: Uuid,
    },
    /// The request was carried out; return this response.
    Replay(RecordedResponse),
    /// The key was used for a different request.
    Mismatch,
    /// The same request is being carried out now.
    InFlight,
}

/// A stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedResponse {
    /// The HTTP status.
    pub status: u16,
    /// The `Location` header, if the response had one.
    pub location: Option<String>,
    /// The body that was passed to `finish`.
    pub body: String,
}
