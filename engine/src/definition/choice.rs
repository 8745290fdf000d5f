//! A choice among the steps of a definition: a predicate over what the saga has stored decides which arm it takes. It runs
//! in the commit of the batch, and what it decides is stored with it.

use crate::{
    definition::computed::{Computed, Uncomputed},
    model::{arms::Arm, stored_value::StoredValues},
};

/// The code of a choice.
pub(crate) struct ChoiceAction {
    pub(super) name: &'static str,
    pub(super) predicate: Computed<(), bool>,
}

impl ChoiceAction {
    /// The arm that a saga with these values takes.
    ///
    /// # Errors
    /// Why it can't be decided.
    pub(crate) fn arm(&self, values: &StoredValues) -> Result<Arm, Uncomputed> {
        let what = || format!("the predicate of `{}`", self.name);
        self.predicate.of(values, (), what).map(Arm::of)
    }
}
