//! The stored name of a saga, with the types of its input and its result.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

use crate::{definition::new_saga::NewSaga, model::views::FinalStatus};

/// The stored name of a saga with the type of its input, and that of its result if it has one: what a caller needs to start
/// it, and to read what it gave.
#[derive(Debug)]
pub struct SagaName<I, O = ()> {
    pub(super) name: &'static str,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> Clone for SagaName<I, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I, O> Copy for SagaName<I, O> {}

impl<I: Serialize, O> SagaName<I, O> {
    /// Creates the name, which must be kebab-case. Renaming a saga is a data migration.
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
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

impl<I, O: DeserializeOwned> SagaName<I, O> {
    /// Reads the result of a saga that has completed; `None` if it ended otherwise, or gave none.
    ///
    /// # Errors
    /// When the stored result is not of this type, as after a deploy that changed it.
    pub fn result(&self, ending: &FinalStatus) -> Result<Option<O>, serde_json::Error> {
        ending.result.as_ref().map(O::deserialize).transpose()
    }
}
