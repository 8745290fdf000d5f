//! The query of the lists of dead jobs.

use engine::DeadJobFilter;
use utoipa::IntoParams;

use crate::extract::{FromParams, Params, Timestamp};

/// Which dead jobs to list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeadJobQuery {
    /// Only those of this definition.
    definition: Option<String>,
    /// Only those that died at this step.
    step: Option<String>,
    /// Only those whose last error contains this text.
    #[param(max_length = 200)]
    error_contains: Option<String>,
    /// Only those that died before this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    died_before: Option<Timestamp>,
    /// Only those that died after this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    died_after: Option<Timestamp>,
    /// Includes resolved ones.
    #[param(default = false)]
    with_resolved: Option<bool>,
    /// `next_cursor` of the page before, with the same filter.
    cursor: Option<String>,
    /// How many at most, 1 to 200; 50 by default.
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
}

impl FromParams for DeadJobQuery {
    fn from_params(params: &mut Params) -> Self {
        Self {
            definition: params.text("definition", 64),
            step: params.text("step", 64),
            error_contains: params.text("error_contains", 200),
            died_before: params.take("died_before"),
            died_after: params.take("died_after"),
            with_resolved: params.take("with_resolved"),
            cursor: params.text("cursor", 256),
            limit: params.limit(),
        }
    }
}

impl DeadJobQuery {
    /// The filter, the cursor and the limit.
    pub(super) fn parts(self) -> (DeadJobFilter, Option<String>, u32) {
        let filter = DeadJobFilter {
            definition: self.definition,
            step: self.step,
            error_contains: self.error_contains,
            died_before: self.died_before.map(Into::into),
            died_after: self.died_after.map(Into::into),
            with_resolved: self.with_resolved.unwrap_or_default(),
        };
        (filter, self.cursor, self.limit)
    }
}
