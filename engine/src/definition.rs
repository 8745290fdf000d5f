//! How a saga is written: steps, their inputs and undos, and the definition in which their types are erased.

pub(crate) mod erased;
pub(crate) mod inputs;
pub(crate) mod new_saga;
pub(crate) mod observer;
pub(crate) mod saga;
pub(crate) mod step;
pub(crate) mod tx;
