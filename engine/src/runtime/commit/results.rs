//! What the sagas of a batch give that complete in it.

use crate::{
    model::{status::Status, stored_value::StoredValue, views::FinalStatus},
    runtime::commit::cursor::SagaCursor,
};

impl SagaCursor<'_> {
    /// Takes the result of a saga that completed in this batch.
    pub(super) fn take_result(&mut self, limit: usize) {
        if !(self.came_to_rest && self.state.status == Status::Completed) {
            return;
        }
        match self.definition.result(self.job.saga_id, &self.values, limit) {
            Ok(result) => self.result = result,
            Err(error) => self.error = Some(error),
        }
    }

    pub(crate) fn final_status(&self) -> FinalStatus {
        FinalStatus {
            status: self.state.status,
            cause: self.state.cause.clone(),
            result: self.result.as_ref().map(StoredValue::to_json),
        }
    }
}
