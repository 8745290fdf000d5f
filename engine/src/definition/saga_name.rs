//! The stored name of a saga, with the type of its input.

use std::marker::PhantomData;

use serde::Serialize;

use crate::definition::new_saga::NewSaga;

/// The stored name of a saga with the type of its input: what a caller needs to start one.
#[derive(Debug)]
pub struct SagaName<I> {
    pub(super) name: &'static str,
    input: PhantomData<fn(I)>,
}

impl<I> Clone for SagaName<I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I> Copy for SagaName<I> {}

impl<I: Serialize> SagaName<I> {
    /// Creates the name, which must be kebab-case. Renaming a saga is a data migration.
    pub const fn new(name: &'static str) -> Self {
        Self { name, input: PhantomData }
    }

    /// The name under which it is stored.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Prepares a saga with this input, to be started.
    pub fn with(&self, input: &I) -> NewSaga {
        NewSaga::typed(self.name, input)
    }
}
