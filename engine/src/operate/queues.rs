//! Lists, pauses and resumes queues.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::{
    engine::Engine,
    model::queue::{Pause, QueueDepth, QueueSetting, QueueView},
    store::{self},
};

impl Engine {
    /// Lists the queues: those of the registered definitions, those with work in them, and those that were ever paused.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn queues(&self) -> Result<Vec<QueueView>, sqlx::Error> {
        let mut queues: BTreeMap<String, QueueView> = self
            .core
            .definitions
            .all()
            .map(|definition| (definition.graph.queue.clone(), QueueView::named(&definition.graph.queue)))
            .collect();
        for depth in store::counts::queue_depths(self.pool()).await? {
            let QueueDepth { queue, due, waiting, leased, oldest_due_ms } = depth;
            let view = queues.entry(queue.clone()).or_insert_with(|| QueueView::named(&queue));
            (view.due, view.waiting, view.leased, view.oldest_due_ms) = (due, waiting, leased, oldest_due_ms);
        }
        for row in store::queues::all(self.pool()).await? {
            let view = queues.entry(row.name.clone()).or_insert_with(|| QueueView::named(&row.name));
            (view.paused, view.paused_by, view.reason) = (row.paused, row.paused_by, row.reason);
            (view.since, view.version) = (Some(row.since), row.version);
        }
        Ok(queues.into_values().collect())
    }

    /// Reads whether a queue is paused, and locks that setting for the rest of the caller's transaction.
    ///
    /// # Errors
    /// When the database can't be reached, or refuses the name.
    pub async fn lock_queue_in(
        &self,
        conn: &mut PgConnection,
        name: &str,
    ) -> Result<QueueSetting, sqlx::Error> {
        let row = store::queues::lock(conn, name).await?;
        let store::queues::QueueRow { paused, paused_by, reason, version, .. } = row;
        Ok(QueueSetting { paused, paused_by, reason, version })
    }

    /// Pauses a queue in the caller's transaction, or resumes it with `None`; returns whether it was paused before.
    /// Call [`Engine::queue_changed`] after the commit; other processes notice the change within about a second.
    ///
    /// # Errors
    /// When the database can't be reached, or refuses the name.
    pub async fn set_queue_in(
        &self,
        conn: &mut PgConnection,
        name: &str,
        pause: Option<&Pause<'_>>,
    ) -> Result<bool, sqlx::Error> {
        let was = store::queues::lock(conn, name).await?;
        store::queues::set(conn, name, pause).await?;
        if pause.is_none() {
            store::hints::notify_due_at_commit(conn, &[name]).await?;
        }
        Ok(was.paused)
    }

    /// Makes this process re-read at once whether a queue is paused.
    pub fn queue_changed(&self, name: &str) {
        self.core.feeds.pauses.forget();
        self.core.feeds.wake(name);
    }
}
