//! GET `/api/processes`.

use axum::extract::State;
use chrono::{DateTime, Utc};
use engine::ProcessView;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    extract::NoQuery,
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{DATABASE_PROBLEMS, problems},
        documented_enum::documented_enum,
    },
    resources::page::{list, whole},
    state::ApiState,
};

problems!(Problems: DATABASE_PROBLEMS, &[ProblemCode::InvalidParameter]);

documented_enum!(
    ProcessState,
    "`up`: it runs; `draining`: it finishes what it holds and takes nothing new; `gone`: it was killed, or can't reach \
     the database, since it has not been heard of for several heartbeats. More may be added.",
    engine::ProcessState::ALL
);

/// A process of Sagaline, as it told of itself with its last heartbeat.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the JSON names them so, as that of circuit breakers")]
pub(crate) struct Process {
    pub(crate) process_id: Uuid,
    #[schema(value_type = ProcessState)]
    pub(crate) state: engine::ProcessState,
    /// The kind of process: `dev`, `serve`, `work`, or the service that it serves. More may be added.
    #[schema(example = "work")]
    pub(crate) process: String,
    pub(crate) version: String,
    /// The host on which it runs.
    #[schema(example = "worker-3")]
    pub(crate) host: String,
    /// Its process id on that host.
    pub(crate) pid: u32,
    /// The queues on which it works; empty for one that only serves, and for one that is draining.
    pub(crate) queues: Vec<String>,
    /// How many workflows it held.
    pub(crate) in_flight: u32,
    /// How many workflows it holds at most, 0 if it only serves; `null` if it is of an earlier version.
    pub(crate) capacity: Option<u32>,
    pub(crate) started_at: DateTime<Utc>,
    /// When it was heard of last.
    pub(crate) seen_at: DateTime<Utc>,
}

list!(ProcessList of Process, "All processes.", "Always `null`: the list has no pages.");

impl From<ProcessView> for Process {
    fn from(process: ProcessView) -> Self {
        Self {
            process_id: process.worker.0,
            state: process.state,
            process: process.role,
            version: process.version,
            host: process.host,
            pid: process.pid,
            queues: process.queues,
            in_flight: process.in_flight,
            capacity: process.capacity,
            started_at: process.started_at,
            seen_at: process.seen_at,
        }
    }
}

/// List the processes
///
/// The processes that serve the API or work on queues, the oldest first. One that stops in order leaves the list; one
/// that vanished stays in it for a day as `gone`. What it held is taken over by others when its leases end.
#[utoipa::path(
    get,
    path = "/api/processes",
    tag = "operations",
    responses(
        (
            status = 200,
            description = "All processes",
            body = ProcessList,
            example = json!(whole(&example()))
        ),
        Problems
    )
)]
pub(crate) async fn list_processes(
    State(state): State<ApiState>,
    _: NoQuery,
) -> Result<JsonResponse, Problem> {
    JsonResponse::ok(&ProcessList::whole(state.engine().processes().await?))
}

fn example() -> Value {
    json!({
        "process_id": "0199f3a0-3333-7333-8444-555566667777",
        "state": "up",
        "process": "work",
        "version": "0.1.0",
        "host": "worker-3",
        "pid": 4711,
        "queues": ["default", "notifications"],
        "in_flight": 17,
        "capacity": 96,
        "started_at": "2026-11-22T10:00:00Z",
        "seen_at": "2026-11-22T10:00:12Z"
    })
}
