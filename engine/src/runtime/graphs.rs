//! The graphs of sagas whose code this process lacks. Every graph is stored before its first saga, so any process can
//! decide about, draw and check any saga.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::OnceCell;

use crate::{model::graph::Graph, runtime::definitions::Definitions, store, support::connection::timed_out};

/// How long storing the graphs of a process may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// The stored graphs that were read so far; one never changes.
#[derive(Default)]
pub(crate) struct Graphs {
    read: RwLock<HashMap<String, Arc<Graph>>>,
    /// Whether the graphs of this process are stored.
    stored: OnceCell<()>,
}

impl Graphs {
    /// Finds the graph with this hash among those that are stored. `None` if it is not, or if it was written by a newer
    /// engine, in a form that this one can't read.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub(crate) async fn find(
        &self,
        conn: &mut PgConnection,
        hash: &str,
    ) -> Result<Option<Arc<Graph>>, sqlx::Error> {
        if let Some(graph) = self.read.read().get(hash) {
            return Ok(Some(graph.clone()));
        }
        let Some(graph) = store::processes::graph(conn, hash).await? else { return Ok(None) };
        let graph = Arc::new(graph);
        self.read.write().insert(hash.to_owned(), graph.clone());
        Ok(Some(graph))
    }

    /// Stores the graphs of this process, unless it has done so already: before its first start, and before its first claim.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub(crate) async fn ensure_stored(
        &self,
        definitions: &Definitions,
        conn: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        if self.stored.initialized() {
            return Ok(());
        }
        let store_all = async || {
            for definition in definitions.all() {
                store::processes::store_graph(conn, &definition.graph, definition.input_schema()).await?;
            }
            Ok::<_, sqlx::Error>(())
        };
        let stored = tokio::time::timeout(STORE_TIMEOUT, self.stored.get_or_try_init(store_all));
        stored.await.map_err(|_| timed_out("the graphs could not be stored in time"))?.map(drop)
    }

    /// As [`ensure_stored`](Self::ensure_stored), on a connection of its own: for a start in a caller's transaction. In that
    /// transaction the graphs would be locked until it ends, and a connection of the pool may not be left while it is open.
    ///
    /// # Errors
    /// When the database can't be reached, or takes no more connections.
    pub(crate) async fn ensure_stored_apart(
        &self,
        definitions: &Definitions,
        pool: &PgPool,
    ) -> Result<(), sqlx::Error> {
        if self.stored.initialized() {
            return Ok(());
        }
        let options = pool.connect_options();
        let connected = tokio::time::timeout(STORE_TIMEOUT, PgConnection::connect_with(&options));
        let mut conn = connected.await.map_err(|_| timed_out("there was no connection in time"))??;
        self.ensure_stored(definitions, &mut conn).await?;
        conn.close().await
    }
}
