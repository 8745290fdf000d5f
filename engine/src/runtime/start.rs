//! Starts sagas, in batches with those of other callers.

pub(crate) mod batcher;
pub(crate) mod entry;
pub(crate) mod start_sagas;
pub(crate) mod validate;
