//! `Idempotency-Key`: the first request with a key does the work, every later one with the same key and body gets the
//! same answer.

mod idempotent;
mod key;
mod key_finisher;
mod stored;

pub(crate) use idempotent::Idempotency;
pub(crate) use key::IdempotencyKey;
