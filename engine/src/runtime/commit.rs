//! Group commit: one transaction advances a batch of sagas.

pub(crate) mod advance;
pub(crate) mod attempt;
pub(crate) mod attempt_error;
pub(crate) mod batch_metrics;
pub(crate) mod bisect;
pub(crate) mod blocked_rows;
pub(crate) mod cancels;
mod child_ends;
mod children;
mod children_wait;
mod choices;
pub(crate) mod continuation;
pub(crate) mod cursor;
pub(crate) mod dead_letter;
pub(crate) mod error;
pub(crate) mod group_commit;
pub(crate) mod held_up;
pub(crate) mod interruption;
pub(crate) mod observers;
pub(crate) mod postponement;
pub(crate) mod recovery;
mod results;
pub(crate) mod scouts;
pub(crate) mod settle;
pub(crate) mod suspects;
pub(crate) mod wait;
pub(crate) mod waits;
