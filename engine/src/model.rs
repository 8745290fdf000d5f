//! Data and pure rules of sagas. No I/O, no tokio, no user code.

pub(crate) mod arms;
pub(crate) mod audit;
pub(crate) mod begins;
pub(crate) mod call_error;
pub(crate) mod cause;
pub(crate) mod child;
pub(crate) mod dead_job;
pub(crate) mod error;
pub(crate) mod error_chain;
pub(crate) mod graph;
pub(crate) mod ids;
pub(crate) mod json_pointer;
pub(crate) mod kinds;
pub(crate) mod known_graph;
pub(crate) mod moving;
pub(crate) mod nul_character;
pub(crate) mod open_choice;
pub(crate) mod outcome;
pub(crate) mod page;
pub(crate) mod paths;
pub(crate) mod pending_cancel;
pub(crate) mod progress;
pub(crate) mod queue;
pub(crate) mod replay;
pub(crate) mod retention;
pub(crate) mod retry;
pub(crate) mod signal;
pub(crate) mod signal_view;
#[cfg(test)]
pub(crate) mod sketch;
pub(crate) mod status;
pub(crate) mod storable;
pub(crate) mod stored_value;
pub mod transition;
pub(crate) mod tree;
pub(crate) mod views;
