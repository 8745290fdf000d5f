//! The endpoints: a folder for each resource and a file for each endpoint. Handlers are named `<verb>_<resource>`,
//! which is also their operation id.

pub(crate) mod audit;
pub(crate) mod bulk_plan;
pub(crate) mod circuit_breakers;
pub(crate) mod dead_jobs;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod notifications;
pub(crate) mod orders;
mod page;
pub(crate) mod processes;
pub(crate) mod products;
pub(crate) mod queues;
pub(crate) mod returns;
mod versioned;
pub(crate) mod workflows;
