//! Stores the responses to requests with an `Idempotency-Key`, so that a repeated request gets the same response.

mod read;
mod request;
mod response;
mod write;

pub use request::begin;
pub use response::{Begin, IN_FLIGHT_TIMEOUT, MAX_KEY_LEN, RETENTION, RecordedResponse};
pub use write::{abandon, finish};
pub(super) use {read::expired_for, write::delete_expired};
