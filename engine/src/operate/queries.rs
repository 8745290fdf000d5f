//! Queries about sagas, histories, dead jobs and queues.

use crate::{
    engine::Engine,
    model::{
        dead_job::{DeadJob, DeadJobFilter, DeadJobSummary},
        ids::{DeadJobId, SagaId},
        queue::QueueDepth,
        views::{HistoryEntry, Page, SagaFilter, SagaView, StatusCount},
    },
    store,
};

impl Engine {
    /// Reads a saga.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn saga(&self, saga_id: SagaId) -> Result<Option<SagaView>, sqlx::Error> {
        store::queries::saga(self.pool(), saga_id.0).await
    }

    /// Lists sagas, newest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn sagas(&self, filter: &SagaFilter, page: Page) -> Result<Vec<SagaView>, sqlx::Error> {
        store::queries::sagas(self.pool(), filter, page).await
    }

    /// Reads a saga's history; `None` when there is no such saga.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn history(&self, saga_id: SagaId) -> Result<Option<Vec<HistoryEntry>>, sqlx::Error> {
        self.part_of_history(saga_id, 0, i64::MAX).await
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
    ) -> Result<Option<Vec<HistoryEntry>>, sqlx::Error> {
        self.part_of_history(saga_id, after, i64::from(limit)).await
    }

    async fn part_of_history(
        &self,
        saga_id: SagaId,
        after: i32,
        limit: i64,
    ) -> Result<Option<Vec<HistoryEntry>>, sqlx::Error> {
        let history = store::queries::history(self.pool(), saga_id.0, after, limit).await?;
        if history.is_empty() && store::queries::status_of(self.pool(), saga_id.0).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(history))
    }

    /// Reads the newest history entries about the action of one step, in order, at most `limit` of them. Empty when
    /// there is no such saga.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn latest_attempts(
        &self,
        saga_id: SagaId,
        step: &str,
        limit: u32,
    ) -> Result<Vec<HistoryEntry>, sqlx::Error> {
        store::queries::latest_attempts(self.pool(), saga_id.0, step, i64::from(limit)).await
    }

    /// Reads a dead job.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn dead_job(&self, id: DeadJobId) -> Result<Option<DeadJob>, sqlx::Error> {
        store::dead_jobs::dead_job(self.pool(), id.0).await
    }

    /// Lists dead jobs, newest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn dead_jobs(&self, filter: &DeadJobFilter, page: Page) -> Result<Vec<DeadJob>, sqlx::Error> {
        store::dead_jobs::dead_jobs(self.pool(), filter, page).await
    }

    /// Counts dead jobs.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn count_dead_jobs(&self, filter: &DeadJobFilter) -> Result<i64, sqlx::Error> {
        store::dead_jobs::count(self.pool(), filter).await
    }

    /// Counts the dead jobs that match, by the step at which they died and by error.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn summarize_dead_jobs(&self, filter: &DeadJobFilter) -> Result<DeadJobSummary, sqlx::Error> {
        Ok(DeadJobSummary {
            by_kind: store::dead_jobs::by_kind(self.pool(), filter).await?,
            by_error: store::dead_jobs::by_error(self.pool(), filter).await?,
        })
    }

    /// Counts the due, waiting and leased sagas of each queue that has any.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn queue_depths(&self) -> Result<Vec<QueueDepth>, sqlx::Error> {
        store::counts::queue_depths(self.pool()).await
    }

    /// Counts the sagas that wait for more than a time, by what they wait for: `version`, a process that knows their step;
    /// `lock`, a lock that another transaction holds.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn waiting_counts(&self) -> Result<Vec<(String, i64)>, sqlx::Error> {
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
