//! Queries about trees of sagas.

use sqlx::PgConnection;

use crate::{
    engine::Engine,
    model::{
        child::{ChildResult, ChildrenOf},
        ids::SagaId,
        page::PageOf,
        tree::SagaTree,
    },
    store,
    support::bounded_list::{ListCost, ListError, read_list},
};

impl Engine {
    /// Counts the children of a saga, for each step that has any. [`SagaFilter::parent`](crate::SagaFilter::parent)
    /// lists them, and [`Engine::child_results`] gives what they gave.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn children_of(&self, saga_id: SagaId) -> Result<Vec<ChildrenOf>, ListError> {
        // Most sagas have none, and only what may have to look at many rows needs a time limit.
        if !store::children::has_any(self.pool(), saga_id.0).await? {
            return Ok(Vec::new());
        }
        let count = async |conn: &mut PgConnection| store::children::by_step(conn, saga_id.0).await;
        read_list(self.pool(), ListCost::MayScan, count).await
    }

    /// Reads what the children of a step gave, in the order of their positions, at most `limit` of them after the
    /// position `after`, and fewer if they are large. It has them from when they are started, with their status; of a
    /// position that was opened anew, the last one. `None` when there is no such saga; a step that has no children has
    /// no results.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn child_results(
        &self,
        parent: SagaId,
        step: &str,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Option<PageOf<ChildResult>>, sqlx::Error> {
        let after = after.map_or(-1, |after| i32::try_from(after).unwrap_or(i32::MAX / 2));
        let limit = limit.clamp(1, 1000);
        let page = store::trees::child_results(self.pool(), (parent.0, step), after, limit).await?;
        let exists = !page.items.is_empty() || self.exists(parent).await?;
        Ok(exists.then_some(page))
    }

    /// Reads the tree of which a saga is part; `None` when there is no such saga.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn tree(&self, member: SagaId) -> Result<Option<SagaTree>, ListError> {
        let read = async |conn: &mut PgConnection| {
            let Some(root) = store::trees::root(&mut *conn, member.0).await? else { return Ok(None) };
            let steps = store::trees::steps(&mut *conn, root.saga_id.0).await?;
            let in_need = if steps.is_empty() {
                Vec::new()
            } else {
                store::trees::in_need(conn, root.saga_id.0).await?
            };
            Ok(Some(SagaTree { root, steps, in_need }))
        };
        read_list(self.pool(), ListCost::MayScan, read).await
    }
}
