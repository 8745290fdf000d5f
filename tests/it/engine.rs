//! The engine alone, on a real database.

mod claims;
mod dead_jobs;
mod discards;
mod expiry;
mod fixtures;
mod graphs;
mod lanes;
mod oracle;
mod outages;
mod proofs;
mod queues;
mod sets;
mod starts;
mod throttles;
mod unwritable;
