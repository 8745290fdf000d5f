//! A choice among the steps of a definition: it runs no code but its predicate, in the commit of its batch.

use crate::{
    definition::{choice::ChoiceAction, erased::ErasedStep},
    model::{status::Direction, stored_value::StoredValues},
};

impl ErasedStep for ChoiceAction {
    fn name(&self) -> &str {
        self.name
    }

    fn read(&self, direction: Direction, values: &StoredValues) -> Result<(), String> {
        match direction {
            Direction::Action => self.predicate.read(values),
            Direction::Undo => Ok(()),
        }
    }

    /// The arm is part of the saga's state, and no output that a step could read.
    fn read_output(&self, _: &StoredValues) -> Result<(), String> {
        Ok(())
    }

    fn choice(&self) -> Option<&ChoiceAction> {
        Some(self)
    }
}
