//! The REST API as a client sees it: a real listener, a real database, and workers in the same process.

mod access;
mod audit;
mod breakers;
mod choices;
mod contract;
mod database_down;
mod dead_job_plans;
mod dead_jobs;
mod document;
pub(crate) mod fixtures;
mod idempotency;
mod inventory;
mod limits;
mod moves;
mod notifications;
mod operations;
mod operators;
mod orders;
mod page_bytes;
mod paging;
mod queues;
mod signals;
mod slow_callers;
mod sockets;
mod validation;
mod versions;
mod workflows;
