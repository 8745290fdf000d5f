//! Checks that stored histories lead to the stored states of their sagas.

use std::collections::HashMap;

use uuid::Uuid;

use crate::{
    engine::Engine,
    model::{
        ids::SagaId,
        page::Page,
        replay::replay,
        views::{HistoryEntry, HistoryOutcome, SagaFilter, SagaView},
    },
    operate::decision::{SagaGraph, SagaGraphs},
    store,
    support::bounded_list::ListError,
};

/// A history that does not lead to the stored state of its saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryViolation {
    /// The id of the saga.
    pub saga_id: SagaId,
    /// What is wrong.
    pub violation: String,
}

/// What a check of several histories found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifiedHistories {
    /// How many sagas' histories were checked.
    pub sagas: u64,
    /// Those that do not lead to the stored state.
    pub violations: Vec<HistoryViolation>,
}

/// How many sagas are read at once.
const PAGE: i64 = 500;

/// Replays a saga's history through the pure transition function and compares the result with the stored state; `None`
/// when they agree.
#[cfg(feature = "testing")]
pub(crate) async fn check_history(
    core: &crate::runtime::core::Core,
    pool: &sqlx::PgPool,
    saga: &SagaView,
) -> Result<Option<HistoryViolation>, sqlx::Error> {
    let mut history = store::queries::history(pool, saga.saga_id.0).await?;
    history.retain(|entry| entry.outcome != HistoryOutcome::Started);
    let graph = SagaGraph::find(core, &mut *pool.acquire().await?, &saga.graph_hash).await?;
    Ok(compare(&graph, saga, &history))
}

/// Compares the stored entries of a saga's history with its row.
fn compare(graph: &SagaGraph, saga: &SagaView, history: &[HistoryEntry]) -> Option<HistoryViolation> {
    let violation = |violation: String| Some(HistoryViolation { saga_id: saga.saga_id, violation });
    if graph.is_unknown() {
        // Before graphs were stored, hashes were of another form.
        let hash = saga.graph_hash.strip_prefix("g1:")?;
        return violation(format!(
            "its graph g1:{hash} is not stored, or in a form that this build can't read"
        ));
    }
    if history.iter().any(|entry| entry.outcome == HistoryOutcome::Unknown) {
        // Only the newer version that wrote it can say where it leads.
        return None;
    }
    let graph = graph.graph();
    if let Some(gap) = history.iter().zip(1..).find(|(entry, seq)| entry.seq != *seq) {
        return violation(format!("entry {} is missing", gap.1));
    }
    match replay(graph, history, saga.cause.as_ref()) {
        Err(error) => violation(error),
        Ok(state) => {
            let step = graph.steps.get(state.step_index).map_or("", |node| node.name.as_str());
            let replayed = (state.status, step, state.direction, &state.arms);
            let stored = (saga.status, saga.step.as_str(), saga.direction, &saga.arms);
            if replayed == stored {
                None
            } else {
                violation(format!("the history leads to {replayed:?}, but the saga's row has {stored:?}"))
            }
        }
    }
}

impl Engine {
    /// Checks the histories of up to `limit` sagas, newest first: each must be without gaps, and lead to its saga's
    /// stored state when it is replayed. Sagas that change while they are read are skipped.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn verify_histories(&self, limit: u32) -> Result<Vec<HistoryViolation>, sqlx::Error> {
        let mut verified = VerifiedHistories::default();
        let mut page = Page { after: None, limit: 500 };
        let mut left = limit;
        loop {
            page.limit = left.min(500);
            if page.limit == 0 {
                return Ok(verified.violations);
            }
            let listed = self.sagas(&SagaFilter::default(), page).await.map_err(ListError::into_database);
            let sagas = listed?.items;
            let Some(last) = sagas.last() else { return Ok(verified.violations) };
            page.after = Some(last.saga_id.0);
            // A page with large sagas is shorter than was asked for.
            left = left.saturating_sub(u32::try_from(sagas.len()).unwrap_or(page.limit));
            self.verify(&sagas, &mut verified).await?;
        }
    }

    /// Checks, as [`verify_histories`](Self::verify_histories), all sagas with ids from `from` up to `to`, `to` itself
    /// excluded. It reads page by page, so it holds no snapshot for long.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn verify_histories_between(
        &self,
        from: SagaId,
        to: SagaId,
    ) -> Result<VerifiedHistories, sqlx::Error> {
        let mut verified = VerifiedHistories::default();
        let mut after = None;
        loop {
            let sagas = store::queries::sagas_between(self.pool(), from.0, to.0, after, PAGE).await?;
            let Some(last) = sagas.last() else { return Ok(verified) };
            after = Some(last.saga_id.0);
            self.verify(&sagas, &mut verified).await?;
        }
    }

    /// Checks, as [`verify_histories`](Self::verify_histories), all sagas that are unfinished, or dead and not given
    /// up.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn verify_unfinished_histories(&self) -> Result<VerifiedHistories, sqlx::Error> {
        let mut verified = VerifiedHistories::default();
        let ids = store::queries::unfinished_ids(self.pool()).await?;
        for page in ids.chunks(500) {
            let sagas = store::queries::sagas_with_ids(self.pool(), page).await?;
            self.verify(&sagas, &mut verified).await?;
        }
        Ok(verified)
    }

    /// Returns the id of the saga that has this many newer ones, by id; `None` if there are no more than that.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn newest_saga_id(&self, newer: u32) -> Result<Option<SagaId>, sqlx::Error> {
        Ok(store::queries::newest_id(self.pool(), newer.into()).await?.map(SagaId))
    }

    /// Returns the id of the saga that comes after the first `offset` ones with ids from `from` on; `None` if there are
    /// no more than that.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn saga_id_from(&self, from: SagaId, offset: u32) -> Result<Option<SagaId>, sqlx::Error> {
        Ok(store::queries::id_from(self.pool(), from.0, offset.into()).await?.map(SagaId))
    }

    async fn verify(&self, sagas: &[SagaView], verified: &mut VerifiedHistories) -> Result<(), sqlx::Error> {
        let ids: Vec<Uuid> = sagas.iter().map(|saga| saga.saga_id.0).collect();
        let mut finder = SagaGraphs::new(&self.core);
        let mut graphs = Vec::with_capacity(sagas.len());
        let mut conn = self.pool().acquire().await?;
        for saga in sagas {
            graphs.push(finder.find(&mut conn, &saga.graph_hash).await?);
        }
        drop(conn);
        let mut choices: Vec<&str> = graphs.iter().flat_map(|graph| graph.graph().choices()).collect();
        choices.sort_unstable();
        choices.dedup();
        let mut histories: HashMap<Uuid, Vec<HistoryEntry>> = HashMap::new();
        for (id, entry) in store::queries::histories(self.pool(), &ids, &choices).await? {
            histories.entry(id).or_default().push(entry);
        }
        for (saga, graph) in sagas.iter().zip(&graphs) {
            let history = histories.remove(&saga.saga_id.0).unwrap_or_default();
            verified.sagas += 1;
            if let Some(violation) = compare(graph, saga, &history) {
                // The saga may have changed between the two reads.
                let again = self.saga(saga.saga_id).await?;
                let still = again.is_some_and(|again| {
                    (again.status, again.epoch, &again.step, again.attempt)
                        == (saga.status, saga.epoch, &saga.step, saga.attempt)
                });
                if still {
                    verified.violations.push(violation);
                }
            }
        }
        Ok(())
    }
}
