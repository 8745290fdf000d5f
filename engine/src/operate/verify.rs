//! Checks that stored histories lead to the stored states of their sagas.

use sqlx::PgPool;

use crate::{
    engine::Engine,
    model::{
        ids::SagaId,
        replay::replay,
        views::{HistoryOutcome, Page, SagaFilter, SagaView},
    },
    runtime::core::Core,
    store,
};

/// A history that does not lead to the stored state of its saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryViolation {
    /// The id of the saga.
    pub saga_id: SagaId,
    /// What is wrong.
    pub violation: String,
}

/// Replays a saga's history through the pure transition function and compares the result with the stored state; `None`
/// when they agree.
pub(crate) async fn check_history(
    core: &Core,
    pool: &PgPool,
    saga: &SagaView,
) -> Result<Option<HistoryViolation>, sqlx::Error> {
    let violation = |violation: String| Some(HistoryViolation { saga_id: saga.saga_id, violation });
    let Some(definition) = core.definitions.get(&saga.definition) else {
        return Ok(None);
    };
    let mut history = store::queries::history(pool, saga.saga_id.0, 0, i64::MAX).await?;
    history.retain(|entry| entry.outcome != HistoryOutcome::Started);
    if let Some(gap) = history.iter().zip(1..).find(|(entry, seq)| entry.seq != *seq) {
        return Ok(violation(format!("entry {} is missing", gap.1)));
    }
    Ok(match replay(&definition.graph, &history, saga.cause.as_ref()) {
        Err(error) => violation(error),
        Ok(state) => {
            let step = definition.graph.steps.get(state.step_index).map_or("", |node| node.name.as_str());
            let replayed = (state.status, step, state.direction);
            let stored = (saga.status, saga.step.as_str(), saga.direction);
            if replayed == stored {
                None
            } else {
                violation(format!("the history leads to {replayed:?}, but the saga's row has {stored:?}"))
            }
        }
    })
}

impl Engine {
    /// Checks the histories of up to `limit` sagas, newest first: each must be without gaps, and lead to its saga's
    /// stored state when it is replayed. Sagas that change while they are read are skipped.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn verify_histories(&self, limit: u32) -> Result<Vec<HistoryViolation>, sqlx::Error> {
        let mut violations = Vec::new();
        let mut page = Page { after: None, limit: 500 };
        let mut left = limit;
        loop {
            page.limit = left.min(500);
            if page.limit == 0 {
                return Ok(violations);
            }
            let sagas = self.sagas(&SagaFilter::default(), page).await?;
            let Some(last) = sagas.last() else { return Ok(violations) };
            page.after = Some(last.saga_id.0);
            left -= page.limit;
            for saga in &sagas {
                if let Some(violation) = check_history(&self.core, self.pool(), saga).await? {
                    // The saga may have changed between the two reads.
                    let again = self.saga(saga.saga_id).await?;
                    let still = again.is_some_and(|again| {
                        (again.status, again.epoch, &again.step, again.attempt)
                            == (saga.status, saga.epoch, &saga.step, saga.attempt)
                    });
                    if still {
                        violations.push(violation);
                    }
                }
            }
        }
    }
}
