//! What a key stands for.

use std::time::Duration;

use uuid::Uuid;

/// The longest key, in characters.
pub const MAX_KEY_LEN: usize = 255;

/// How long an answer is kept.
pub const RETENTION: Duration = Duration::from_hours(24);

/// A request that is in flight for longer than this is taken for lost, and another may take it over.
pub const IN_FLIGHT_TIMEOUT: Duration = Duration::from_mins(1);

/// What is to be done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// It is to be carried out now.
    Fresh {
        /// The id to give to what it creates. A request that takes over a lost one gets the same, so that the two
        /// together create one.
        resource_id: Uuid,
    },
    /// It was carried out; this was the answer.
    Replay(RecordedResponse),
    /// The key was used for a request that said something else.
    Mismatch,
    /// It is being carried out at this moment.
    InFlight,
}

/// An answer to be given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedResponse {
    /// The HTTP status.
    pub status: u16,
    /// The `Location` header, if there was one.
    pub location: Option<String>,
    /// The body, as `finish` was given it.
    pub body: String,
}
