//! A wait among the steps of a definition: it runs no code of its own. The commit of its batch decides when it is over.

use crate::{
    definition::{erased::ErasedStep, wait::WaitAction},
    model::{status::Direction, stored_value::StoredValues},
};

impl ErasedStep for WaitAction {
    fn name(&self) -> &str {
        self.name
    }

    fn read(&self, direction: Direction, values: &StoredValues) -> Result<(), String> {
        match direction {
            Direction::Action => self.read_values(values),
            Direction::Undo => self.read_output(values),
        }
    }

    fn read_output(&self, values: &StoredValues) -> Result<(), String> {
        self.read_stored_output(values)
    }

    fn wait(&self) -> Option<&WaitAction> {
        Some(self)
    }
}
