//! The columns that hold a saga's state, and the only function that decodes them.

use serde::Deserialize;
use sqlx_macros::FromRow;

use crate::model::{arms::Arms, cause::Cause, transition::State};

/// The columns of a saga's state.
#[derive(Debug, FromRow)]
pub(crate) struct SagaStateRow {
    status: String,
    pub(crate) direction: String,
    pub(crate) attempt: i32,
    lost_attempts: i32,
    pub(crate) in_doubt: bool,
    cause: Option<serde_json::Value>,
    /// The arms that it took, a letter each.
    arms: Option<String>,
    round: Option<i32>,
}

/// The state of a saga, decoded from its row.
#[derive(Debug)]
pub(crate) struct StoredState {
    pub(crate) state: State,
    /// Why the cause can't be decoded, if it can't: a newer binary may have stored a kind that this one does not know.
    /// The state then has no cause.
    pub(crate) unreadable_cause: Option<String>,
}

impl SagaStateRow {
    /// Decodes the state of a saga whose step has this index.
    ///
    /// # Errors
    /// When the status, the direction or the arms can't be decoded.
    pub(crate) fn decode(&self, step_index: usize) -> Result<StoredState, sqlx::Error> {
        let unreadable = |error: String| sqlx::Error::Decode(error.into());
        let (cause, unreadable_cause) = match self.cause.as_ref().map(Cause::deserialize).transpose() {
            Ok(cause) => (cause, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let state = State {
            status: self.status.parse().map_err(unreadable)?,
            step_index,
            direction: self.direction.parse().map_err(unreadable)?,
            attempt: u32::try_from(self.attempt).unwrap_or_default(),
            lost_attempts: u32::try_from(self.lost_attempts).unwrap_or_default(),
            in_doubt: self.in_doubt,
            cause,
            arms: Arms::read(self.arms.as_deref()).map_err(unreadable)?,
            round: self.round.and_then(|round| u32::try_from(round).ok()).unwrap_or_default(),
        };
        Ok(StoredState { state, unreadable_cause })
    }
}
