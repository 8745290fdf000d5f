//! Starts sagas, in batches with those of other callers.

mod aside;
pub(crate) mod batcher;
mod blocked_keys;
pub(crate) mod entry;
mod part;
pub(crate) mod start_sagas;
pub(crate) mod validate;
