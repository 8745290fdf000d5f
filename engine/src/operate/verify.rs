//! Checks stored histories against the states they should have led to.

use sqlx::PgPool;

use crate::{
    engine::Engine,
    model::{
        ids::SagaId,
        replay::fold,
        views::{HistoryOutcome, Page, SagaFilter, SagaView},
    },
    runtime::core::Core,
    store,
};

/// Histories that don't add up to their saga's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryViolation {
    /// The saga.
    pub saga_id: SagaId,
    /// What is wrong.
    pub violation: String,
}

/// Folds a saga's history through the pure transition and compares with what is stored; `None` when all is well.
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
    Ok(match fold(&definition.graph, &history, saga.cause.as_ref()) {
        Err(error) => violation(error),
        Ok(state) => {
            let step = definition.graph.steps.get(state.step_index).map_or("", |node| node.name.as_str());
            let folded = (state.status, step, state.direction);
            let stored = (saga.status, saga.step.as_str(), saga.direction);
            if folded == stored {
                None
            } else {
                violation(format!("history says {folded:?}, the saga says {stored:?}"))
            }
        }
    })
}

impl Engine {
    /// Checks the histories of up to `limit` sagas, newest first: no gaps, and folded through the pure transition each
    /// gives its saga's stored state. Sagas that move while being read are passed over.
    ///
    /// # Errors
    /// When the database is away.
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
                    // It may have moved between the two reads.
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
