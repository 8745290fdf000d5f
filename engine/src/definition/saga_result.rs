//! What a saga gives when it has completed.

use crate::{
    model::stored_value::{StoredValue, StoredValues, TooLarge},
    support::user_code::catch_panic,
};

/// What a saga gives when it has completed.
pub(crate) enum SagaResult {
    /// The value at this place among the stored ones.
    Output(usize),
    /// What is computed from the stored values.
    Computed(Box<ComputedResult>),
}

impl SagaResult {
    /// What a saga with these values gives.
    ///
    /// # Errors
    /// Why it gives nothing.
    pub(super) fn of(&self, values: &StoredValues, limit: usize) -> Result<StoredValue, String> {
        match self {
            Self::Output(place) => {
                values.get(*place).cloned().ok_or_else(|| "the output that it is was never stored".into())
            }
            Self::Computed(compute) => {
                let computed = catch_panic(|| compute(values));
                let computed = computed.map_err(|failure| format!("what computes it {failure}"))??;
                let too_large =
                    |TooLarge { size, limit }| format!("it has {size} bytes, and may have {limit}");
                computed.check_size(limit).map_err(too_large)?;
                Ok(computed)
            }
        }
    }
}

pub(crate) type ComputedResult = dyn Fn(&StoredValues) -> Result<StoredValue, String> + Send + Sync;
