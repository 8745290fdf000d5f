//! Processes that run an engine, as operators see them.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::model::ids::WorkerId;

/// A process that runs an engine, as it told of itself with its last heartbeat.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessView {
    /// The id under which it holds leases.
    pub worker: WorkerId,
    /// Whether it runs.
    pub state: ProcessState,
    /// What it does, such as `work`: see [`Engine::announce`](crate::Engine::announce).
    pub role: String,
    /// The version of the program.
    pub version: String,
    /// The host on which it runs.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// The queues on which it works.
    pub queues: Vec<String>,
    /// The hashes of the graphs that it knows.
    pub graphs: Vec<String>,
    /// How many sagas it held.
    pub in_flight: u32,
    /// How many it holds at most; `None` if it is of a version that does not tell.
    pub capacity: Option<u32>,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it was heard of last.
    pub seen_at: DateTime<Utc>,
}

/// Whether a process runs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ProcessState {
    /// It runs.
    Up,
    /// It stops: it finishes what it holds, and takes nothing new.
    Draining,
    /// It has missed its heartbeats: it was killed, or can't reach the database. One that stops in order is not listed.
    Gone,
}

impl ProcessState {
    /// All states, in the order of their declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name of the state.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
