//! Queries about graphs.

use std::collections::HashMap;

use crate::{
    engine::Engine,
    model::known_graph::{GraphProcess, KnownGraph},
    store,
};

impl Engine {
    /// Lists the graphs that were ever registered under a name, at most [`KnownGraph::MOST`], the newest first: how
    /// many sagas each still has, and which processes know it.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn graphs_of(&self, definition: &str) -> Result<Vec<KnownGraph>, sqlx::Error> {
        let mut conn = self.pool().acquire().await?;
        let mut graphs = store::graphs::of(&mut conn, definition, KnownGraph::MOST.into()).await?;
        let hashes: Vec<String> = graphs.iter().map(|graph| graph.hash.clone()).collect();
        let sagas: HashMap<String, i64> =
            store::graphs::sagas(&mut conn, &hashes).await?.into_iter().collect();
        let rows = store::graphs::processes(&mut conn, &hashes, self.core.settings.alive_ms()).await?;
        let mut known: HashMap<String, Vec<GraphProcess>> = HashMap::new();
        for (hash, process) in rows {
            known.entry(hash).or_default().push(process);
        }
        for graph in &mut graphs {
            let mut processes = known.remove(&graph.hash).unwrap_or_default();
            graph.sagas = sagas.get(&graph.hash).copied().unwrap_or_default();
            graph.known_by = i64::try_from(processes.len()).unwrap_or(i64::MAX);
            processes.truncate(KnownGraph::MOST_PROCESSES);
            graph.processes = processes;
        }
        Ok(graphs)
    }
}
