//! A step with children among the steps of a definition: it runs no code but what computes their inputs, in the commit of
//! its batch.

use crate::{
    definition::{
        children::{ChildrenAction, Plan},
        erased::ErasedStep,
    },
    model::{status::Direction, stored_value::StoredValues},
};

impl ErasedStep for ChildrenAction {
    fn name(&self) -> &str {
        self.name
    }

    fn read(&self, direction: Direction, values: &StoredValues) -> Result<(), String> {
        match (direction, &self.plan) {
            (Direction::Action, Plan::Fixed(children)) => {
                children.iter().try_for_each(|child| child.start.read(values))
            }
            (Direction::Action, Plan::Each(items)) => items.read(values),
            (Direction::Action, Plan::Pages(pages)) => pages.read(values),
            (Direction::Undo, _) => Ok(()),
        }
    }

    fn read_output(&self, values: &StoredValues) -> Result<(), String> {
        let Some(stored) = values.get(self.output_index) else { return Ok(()) };
        (self.read_output)(stored)
            .map_err(|error| format!("the stored output of `{}` can't be read: {error}", self.name))
    }

    fn children(&self) -> Option<&ChildrenAction> {
        Some(self)
    }
}
