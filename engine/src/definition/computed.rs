//! What a definition computes from the stored values of a saga, outside of a step's code.

use crate::{
    definition::step_input::StepInput, model::stored_value::StoredValues, support::user_code::catch_panic,
};

/// Computes a `T` from the stored values of a saga and an `A` of the moment.
pub(crate) struct Computed<A, T> {
    read: Box<ReadValues>,
    compute: Box<Compute<A, T>>,
}

/// Why something can't be computed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Uncomputed {
    /// What it is computed from can't be read.
    Unreadable(String),
    /// The code that computes it panicked.
    Failed(String),
}

type ReadValues = dyn Fn(&StoredValues) -> Result<(), String> + Send + Sync;
type Compute<A, T> = dyn Fn(&StoredValues, A) -> Result<T, String> + Send + Sync;

impl<A, T> Computed<A, T> {
    pub(crate) fn new<X: 'static>(
        input: StepInput<X>,
        compute: impl Fn(&X, A) -> T + Send + Sync + 'static,
    ) -> Self {
        let input = std::sync::Arc::new(input);
        let read = {
            let input = input.clone();
            Box::new(move |values: &StoredValues| input.read(values).map(drop))
        };
        Self { read, compute: Box::new(move |values, now| Ok(compute(&input.read(values)?, now))) }
    }

    /// Reads what it is computed from.
    ///
    /// # Errors
    /// What can't be read, and why.
    pub(crate) fn read(&self, values: &StoredValues) -> Result<(), String> {
        (self.read)(values)
    }

    /// Computes it; `what` is the code that does so.
    ///
    /// # Errors
    /// Why it can't be computed.
    pub(crate) fn of(
        &self,
        values: &StoredValues,
        now: A,
        what: impl FnOnce() -> String,
    ) -> Result<T, Uncomputed> {
        match catch_panic(|| (self.compute)(values, now)) {
            Ok(computed) => computed.map_err(Uncomputed::Unreadable),
            Err(failure) => Err(Uncomputed::Failed(format!("{} {failure}", what()))),
        }
    }
}
