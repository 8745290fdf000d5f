//! The runtime of one process: its claims, jobs, batches, and the background tasks that serve them.

pub(crate) mod calls;
pub(crate) mod claim;
pub(crate) mod commit;
pub(crate) mod core;
pub(crate) mod definition_trees;
pub(crate) mod definitions;
pub(crate) mod effects;
pub(crate) mod graphs;
pub(crate) mod hints;
pub(crate) mod job;
pub(crate) mod lease_updates;
pub(crate) mod leases;
pub(crate) mod messages;
pub(crate) mod nudges;
pub(crate) mod perform;
pub(crate) mod quarantine;
pub(crate) mod queue;
pub(crate) mod remote_ends;
pub(crate) mod savepoints;
pub(crate) mod send_signal;
pub(crate) mod settings;
pub(crate) mod slots;
pub(crate) mod start;
pub(crate) mod step_run;
pub(crate) mod tasks;
pub(crate) mod waiters;
