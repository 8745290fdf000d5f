//! Claims due sagas and dispatches them as jobs to the feeds of their queues.

pub(crate) mod allowance;
pub(crate) mod claim_loop;
pub(crate) mod claim_sagas;
pub(crate) mod feed;
