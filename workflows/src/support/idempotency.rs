//! Remembers the answers to requests that carry an `Idempotency-Key`, so that the same request gets the same one.

mod read;
mod request;
mod response;
mod write;

pub use request::begin;
pub use response::{Begin, IN_FLIGHT_TIMEOUT, MAX_KEY_LEN, RETENTION, RecordedResponse};
pub use write::{abandon, finish, purge};
