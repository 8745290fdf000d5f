//! The API for writing a saga: its steps, their inputs and undos, and the definition that is built from them.

mod call_item;
mod chain;
pub(crate) mod choice;
mod choice_step;
pub(crate) mod computed;
pub(crate) mod erased;
pub(crate) mod input_check;
pub(crate) mod inputs;
pub(crate) mod label;
pub(crate) mod new_saga;
pub(crate) mod no_rate;
pub(crate) mod observer;
pub(crate) mod part;
pub(crate) mod running_call;
pub(crate) mod saga;
mod saga_choices;
pub(crate) mod saga_name;
pub(crate) mod saga_result;
mod saga_returns;
mod saga_waits;
pub(crate) mod start_context;
pub(crate) mod step;
pub(crate) mod step_input;
pub(crate) mod tx;
pub(crate) mod wait;
mod wait_step;
