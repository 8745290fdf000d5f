//! A wait among the steps of a definition: it runs no code of its own. The commit of its batch decides when it is over.

use futures::future::BoxFuture;

use crate::{
    definition::{
        erased::{ErasedStep, Invocation, StepAnswer},
        no_rate::NoRate,
        tx::Tx,
        wait::WaitAction,
    },
    model::{error::StepError, status::Direction, stored_value::StoredValues},
};

impl ErasedStep for WaitAction {
    fn no_rate(&self, _: Direction) -> Option<&NoRate> {
        None
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

    fn locks(&self, _: &StoredValues) -> Vec<String> {
        Vec::new()
    }

    fn in_transaction<'a>(
        &'a self,
        _: Direction,
        _: &'a mut Tx<'_>,
        _: &'a [Invocation],
    ) -> BoxFuture<'a, Result<Vec<StepAnswer>, StepError>> {
        Box::pin(async { Err(StepError::Other(format!("`{}` waits, and runs no code", self.name))) })
    }

    fn call<'a>(&'a self, _: Direction, _: &'a Invocation) -> BoxFuture<'a, StepAnswer> {
        Box::pin(async { StepAnswer::InputUnreadable(format!("`{}` waits, and calls nothing", self.name)) })
    }

    fn wait(&self) -> Option<&WaitAction> {
        Some(self)
    }
}
