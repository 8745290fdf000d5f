//! What operators and clocks do to sagas (cancel, retry, discard, expire, delete after a time, pause a
//! queue), and the queries about them.

pub(crate) mod audit;
pub(crate) mod cancel;
pub(crate) mod dead_jobs;
pub(crate) mod deadlines;
pub(crate) mod decision;
pub(crate) mod expiry;
pub(crate) mod give_up;
pub(crate) mod graphs;
pub(crate) mod in_flight;
pub(crate) mod inbox;
pub(crate) mod moves;
pub(crate) mod queries;
pub(crate) mod queues;
pub(crate) mod retention;
pub(crate) mod signals;
pub(crate) mod trees;
pub(crate) mod verify;
