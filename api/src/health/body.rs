//! The JSON bodies of the health endpoints.

use serde::Serialize;
use utoipa::ToSchema;

/// The state of a process or of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HealthState {
    /// It works.
    Up,
    /// It works, but late or in part.
    Degraded,
    /// It works, but is shutting down.
    Draining,
    /// It does not work.
    Down,
    /// It could not be checked.
    Unknown,
}

/// The process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Liveness {
    pub(crate) status: HealthState,
}

/// The health of a process and of what it depends on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `up`; `degraded` when the process serves but a part is not up; `draining` when it is shutting down; `down` when
    /// it can't serve.
    pub(crate) status: HealthState,
    pub(crate) parts: HealthParts,
}

/// The state of each part.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct HealthParts {
    pub(crate) database: DatabaseHealth,
    pub(crate) queue: QueueHealth,
    pub(crate) mail: MailHealth,
    pub(crate) breakers: BreakersHealth,
}

/// The state of the database.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DatabaseHealth {
    /// `degraded` when it answers but is read-only, takes no more connections, or all connections of this process are in
    /// use.
    pub(crate) state: HealthState,
    pub(crate) detail: Option<String>,
    /// How long a new connection and its first answer took, in milliseconds.
    pub(crate) latency_ms: Option<u64>,
    pub(crate) connections: DatabaseConnections,
}

/// The database connections of this process.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DatabaseConnections {
    pub(crate) idle: u32,
    pub(crate) used: u32,
    pub(crate) limit: u32,
}

/// The state of all queues together.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueueHealth {
    /// `degraded` when work has been due for more than a minute (no or too few workers), and while a queue is paused.
    pub(crate) state: HealthState,
    pub(crate) detail: Option<String>,
    /// Workflows that are due and not being worked on.
    pub(crate) due: Option<i64>,
    /// Workflows that are due later.
    pub(crate) waiting: Option<i64>,
    /// Workflows being worked on.
    pub(crate) leased: Option<i64>,
    /// How long the oldest due workflow has waited, in milliseconds.
    pub(crate) oldest_due_ms: Option<i64>,
}

/// The state of the circuit breakers of all processes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BreakersHealth {
    /// `degraded` while a breaker is not closed in some process; work behind it waits.
    pub(crate) state: HealthState,
    pub(crate) detail: Option<String>,
    /// The dependencies whose breaker is not closed in some process; `GET /api/circuit-breakers` lists the processes.
    pub(crate) not_closed: Vec<String>,
}

/// The state of the mail server.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct MailHealth {
    /// The worst state in any process that sends mails: `degraded` while a breaker is half open, `down` while one is
    /// open. Mails wait meanwhile.
    pub(crate) state: HealthState,
    pub(crate) detail: Option<String>,
}
