//! Workflows: sagas of any registered definition.

pub(crate) mod body;
pub(crate) mod cancel;
mod cause;
mod child_body;
mod definition;
mod enums;
pub(crate) mod get;
pub(crate) mod get_definition;
pub(crate) mod get_history;
pub(crate) mod get_tree;
pub(crate) mod list;
pub(crate) mod list_children;
pub(crate) mod list_definitions;
pub(crate) mod list_signals;
pub(crate) mod load;
pub(crate) mod move_many;
pub(crate) mod signal;
mod signal_body;
pub(crate) mod signal_by_key;
pub(crate) mod skip_wait;
pub(crate) mod start;
mod tree_body;

pub(crate) use enums::{StepDirection, StepOutcome};
