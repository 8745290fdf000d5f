//! Which graphs there are of a definition, and who knows them.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::model::ids::WorkerId;

/// A stored graph of a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KnownGraph {
    /// The hash of the graph.
    pub hash: String,
    /// When a process first told of it.
    pub first_seen_at: DateTime<Utc>,
    /// How many sagas of it have not ended: they run, compensate, or are dead and not given up.
    pub sagas: i64,
    /// How many live processes know it.
    pub known_by: i64,
    /// The first of them, at most [`KnownGraph::MOST_PROCESSES`].
    pub processes: Vec<GraphProcess>,
}

impl KnownGraph {
    /// How many graphs are listed: the newest ones.
    pub const MOST: u32 = 50;
    /// How many processes are named for each.
    pub const MOST_PROCESSES: usize = 20;
}

/// A live process that knows a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GraphProcess {
    /// Its id, as a holder of leases.
    pub id: WorkerId,
    /// Its host.
    pub host: String,
    /// Its process id there.
    pub pid: i32,
    /// What it does.
    pub role: String,
    /// Its version.
    pub version: String,
    /// Whether it works on queues, so that it moves sagas on.
    pub works: bool,
}
