//! Claims due sagas and hands them out as jobs.

pub(crate) mod allowance;
pub(crate) mod claim_loop;
pub(crate) mod claim_sagas;
pub(crate) mod feed;
