//! The HTTP edge, as a client sees it: a real listener, a real database, workers in the process.

mod access;
mod audit;
mod breakers;
mod dead_jobs;
mod document;
mod inventory;
mod limits;
mod notifications;
mod once;
mod operations;
mod operators;
mod orders;
mod paging;
mod queues;
mod refusals;
pub(crate) mod shop;
mod sockets;
mod trouble;
mod versions;
mod workflows;
