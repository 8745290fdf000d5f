//! The JSON of health.

use serde::Serialize;
use utoipa::ToSchema;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HealthState {
    /// As it should be.
    Up,
    /// It works, but late or not wholly.
    Degraded,
    /// It works, but is about to stop.
    Draining,
    /// It does not work.
    Down,
    /// It could not be asked.
    Unknown,
}

/// That the process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Liveness {
    pub(crate) status: HealthState,
}

/// How everything is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `up`; `degraded` when it serves but a part is not up; `draining` when it is about to stop; `down` when it can't
    /// serve.
    pub(crate) status: HealthState,
    pub(crate) parts: HealthParts,
}

/// How each part is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct HealthParts {
    pub(crate) database: DatabaseHealth,
    pub(crate) queue: QueueHealth,
    pub(crate) mail: MailHealth,
    pub(crate) breakers: BreakersHealth,
}

/// How the database is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DatabaseHealth {
    /// `degraded` when it answers but this process has used up its connections.
    pub(crate) state: HealthState,
    pub(crate) detail: Option<String>,
    /// How long a new connection and a query took.
    pub(crate) latency_ms: Option<u64>,
    pub(crate) connections: Connections,
}

/// This process's database connections.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Connections {
    pub(crate) idle: u32,
    pub(crate) used: u32,
    pub(crate) limit: u32,
}

/// How the work is going, over all queues.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueueHealth {
    /// `degraded` when work has been due for more than a minute (no worker runs, or too few), and while a queue is paused.
    pub(crate) state: HealthState,
    pub(crate) detail: Option<String>,
    /// Workflows that could move now and are not being worked on.
    pub(crate) due: Option<i64>,
    /// Workflows that wait for a later time.
    pub(crate) waiting: Option<i64>,
    /// Workflows being worked on.
    pub(crate) leased: Option<i64>,
    /// How long the oldest due one has waited.
    pub(crate) oldest_due_ms: Option<i64>,
}

/// How the circuit breakers of all processes are.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BreakersHealth {
    /// `degraded` while one is not closed somewhere; what it holds back waits.
    pub(crate) state: HealthState,
    pub(crate) detail: Option<String>,
    /// The dependencies whose breaker is not closed somewhere; GET `/api/circuit-breakers` tells where.
    pub(crate) not_closed: Vec<String>,
}

/// How the way to the mail server is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct MailHealth {
    /// As the processes tell that send mails: `degraded` while the breaker of one is half open, `down` while that of one is
    /// open; mails wait meanwhile.
    pub(crate) state: HealthState,
    pub(crate) detail: Option<String>,
}
