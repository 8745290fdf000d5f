//! What becomes of a committed job whose saga goes on at once, under the same claim.

use std::sync::Arc;

use crate::{
    model::{stored_value::StoredValues, transition::State},
    runtime::job::Job,
};

/// The next step of a saga that continues under the same claim.
#[derive(Debug)]
pub(crate) struct Continuation {
    pub(crate) state: State,
    pub(crate) step: Arc<str>,
    pub(crate) history_seq: i32,
    pub(crate) values: StoredValues,
}

impl Continuation {
    /// Turns the committed job into the next one, which keeps its claim and its slot.
    pub(crate) fn job(self, job: Job) -> Job {
        let Self { state, step, history_seq, values } = self;
        Job { state, step, history_seq, values, interrupted: false, ..job }
    }
}
