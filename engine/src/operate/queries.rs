//! Queries about sagas, histories, dead jobs and queues.

use serde_json::Value;
use sqlx::PgConnection;

use crate::{
    engine::Engine,
    model::{
        dead_job::{DeadJob, DeadJobFilter, DeadJobSummary},
        ids::{DeadJobId, SagaId},
        page::{Page, PageOf},
        process::ProcessView,
        queue::QueueDepth,
        signal_view::{KeptSignals, SignalView},
        views::{HistoryEntry, SagaFilter, SagaPayload, SagaView, StatusCount, WaitingCount},
    },
    store,
    support::bounded_list::{ListCost, ListError, read_list},
};

impl Engine {
    /// Reads a saga.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn saga(&self, saga_id: SagaId) -> Result<Option<SagaView>, sqlx::Error> {
        store::queries::saga(self.pool(), saga_id.0).await
    }

    /// Reads a saga with its input and its result.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn saga_with_payload(&self, saga_id: SagaId) -> Result<Option<SagaPayload>, sqlx::Error> {
        store::queries::saga_with_payload(self.pool(), saga_id.0).await
    }

    /// Lists sagas, newest first.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn sagas(&self, filter: &SagaFilter, page: Page) -> Result<PageOf<SagaView>, ListError> {
        store::saga_lists::sagas(self.pool(), filter, page).await
    }

    /// Reads a saga's history; `None` when there is no such saga.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn history(&self, saga_id: SagaId) -> Result<Option<Vec<HistoryEntry>>, sqlx::Error> {
        let history = store::queries::history(self.pool(), saga_id.0).await?;
        Ok(if history.is_empty() && !self.exists(saga_id).await? { None } else { Some(history) })
    }

    /// Reads at most `limit` entries of a saga's history that come after the entry with the number `after`; `None` when
    /// there is no such saga.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn history_after(
        &self,
        saga_id: SagaId,
        after: i32,
        limit: u32,
    ) -> Result<Option<PageOf<HistoryEntry>>, sqlx::Error> {
        let page = store::queries::history_page(self.pool(), saga_id.0, after, limit).await?;
        Ok(if page.items.is_empty() && !self.exists(saga_id).await? { None } else { Some(page) })
    }

    pub(super) async fn exists(&self, saga_id: SagaId) -> Result<bool, sqlx::Error> {
        Ok(store::queries::status_of(self.pool(), saga_id.0).await?.is_some())
    }

    /// Reads the newest history entries about the action of one step, in order, at most `limit` of them, and fewer if
    /// they are large. Empty when there is no such saga.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn latest_attempts(
        &self,
        saga_id: SagaId,
        step: &str,
        limit: u32,
    ) -> Result<Vec<HistoryEntry>, sqlx::Error> {
        let mut latest = store::queries::latest_attempts(self.pool(), saga_id.0, step, limit).await?.items;
        latest.reverse();
        Ok(latest)
    }

    /// Lists the processes that run an engine on this database and are [announced](Engine::announce) or work on a queue, the
    /// oldest first. Those that vanished are listed for a day.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn processes(&self) -> Result<Vec<ProcessView>, sqlx::Error> {
        store::processes::all(self.pool(), self.core.settings.alive_ms()).await
    }

    /// Reads a dead job.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn dead_job(&self, id: DeadJobId) -> Result<Option<DeadJob>, sqlx::Error> {
        store::dead_jobs::dead_job(self.pool(), id.0).await
    }

    /// Reads a dead job and the saga's input.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn dead_job_with_payload(
        &self,
        id: DeadJobId,
    ) -> Result<Option<(DeadJob, Value)>, sqlx::Error> {
        store::dead_jobs::dead_job_with_payload(self.pool(), id.0).await
    }

    /// Lists dead jobs, newest first.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn dead_jobs(&self, filter: &DeadJobFilter, page: Page) -> Result<PageOf<DeadJob>, ListError> {
        store::dead_jobs::dead_jobs(self.pool(), filter, page).await
    }

    /// Counts dead jobs.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn count_dead_jobs(&self, filter: &DeadJobFilter) -> Result<i64, ListError> {
        store::dead_jobs::count(self.pool(), filter).await
    }

    /// Counts the dead jobs that match, by the step at which they died and by error.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn summarize_dead_jobs(&self, filter: &DeadJobFilter) -> Result<DeadJobSummary, ListError> {
        let summarize = async |conn: &mut PgConnection| {
            Ok(DeadJobSummary {
                by_kind: store::dead_jobs::by_kind(&mut *conn, filter).await?,
                by_error: store::dead_jobs::by_error(&mut *conn, filter).await?,
            })
        };
        read_list(self.pool(), ListCost::MayScan, summarize).await
    }

    /// Counts the due, waiting and leased sagas of each queue that has any.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn queue_depths(&self) -> Result<Vec<QueueDepth>, sqlx::Error> {
        store::counts::queue_depths(self.pool()).await
    }

    /// Lists the signals that were sent to a saga, the oldest first, at most `limit` of them after the one with the
    /// number `after`; `None` when there is no such saga.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn signals_of(
        &self,
        saga_id: SagaId,
        after: i64,
        limit: u32,
    ) -> Result<Option<PageOf<SignalView>>, sqlx::Error> {
        let page = store::signal_lists::of_saga(self.pool(), saga_id.0, after, limit).await?;
        Ok(if page.items.is_empty() && !self.exists(saga_id).await? { None } else { Some(page) })
    }

    /// Counts the signals that no saga has taken yet, by their name.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn kept_signals(&self) -> Result<Vec<KeptSignals>, sqlx::Error> {
        store::signal_lists::kept(self.pool()).await
    }

    /// Counts the sagas that wait for something besides their due time, by what they wait for.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn waiting_counts(&self) -> Result<Vec<WaitingCount>, sqlx::Error> {
        store::counts::waiting_counts(self.pool()).await
    }

    /// Counts the active and dead sagas by definition and status.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn status_counts(&self) -> Result<Vec<StatusCount>, sqlx::Error> {
        store::counts::status_counts(self.pool()).await
    }
}
