//! The engine alone, on a real database.

mod claims;
mod dead_jobs;
mod errands;
mod graphs;
mod oracle;
mod outages;
mod proofs;
mod sets;
mod starts;
mod unwritable;
