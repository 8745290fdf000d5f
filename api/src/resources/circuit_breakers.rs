//! Circuit breakers of all processes.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use shop::breaker_reports::{self, ReportedBreaker};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    extract::Query,
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{STORED, problems},
    },
    resources::page::{list, whole},
    state::ApiState,
};

problems!(Problems: STORED, &[ProblemCode::InvalidParameter]);

/// One process's circuit breaker before one dependency, as it told within the last half minute.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CircuitBreaker {
    /// What is called: `smtp`, `redis` or `amqp`.
    pub(crate) dependency: String,
    /// `closed`: calls are made; `open`: none is; `half_open`: one at a time is, to see.
    pub(crate) state: &'static str,
    /// Failures in a row.
    pub(crate) failures: i64,
    /// When the outage opened it.
    pub(crate) opened_at: Option<DateTime<Utc>>,
    /// When a call is let through to see; what waits comes then or shortly after.
    pub(crate) next_probe_at: Option<DateTime<Utc>>,
    pub(crate) settings: CircuitBreakerSettings,
    /// The process that calls; each finds out for itself.
    pub(crate) process_id: Uuid,
    /// What that process is, such as `work`.
    pub(crate) process: String,
    /// When the state changed last.
    pub(crate) changed_at: DateTime<Utc>,
    /// When the process told last.
    pub(crate) seen_at: DateTime<Utc>,
}

list!(CircuitBreakerList of CircuitBreaker, "All circuit breakers.", "Always `null`: there are few breakers, and all of them are given.");

/// When a breaker opens, for how long, and what closes it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CircuitBreakerSettings {
    /// So many failures in a row open it.
    pub(crate) failures: i64,
    /// So long nothing is tried then.
    pub(crate) open_ms: i64,
    /// So many trial calls have to succeed before all are made again.
    pub(crate) probes: i64,
}

impl From<ReportedBreaker> for CircuitBreaker {
    fn from(breaker: ReportedBreaker) -> Self {
        Self {
            dependency: breaker.dependency,
            state: breaker.state.0.name(),
            failures: breaker.failures,
            opened_at: breaker.opened_at,
            next_probe_at: breaker.next_probe_at,
            settings: CircuitBreakerSettings {
                failures: breaker.threshold,
                open_ms: breaker.open_ms,
                probes: breaker.probes,
            },
            process_id: breaker.process_id,
            process: breaker.process,
            changed_at: breaker.changed_at,
            seen_at: breaker.seen_at,
        }
    }
}

/// List the circuit breakers
///
/// Those of every process that runs, by dependency. A process tells of its breakers when one changes and every few
/// seconds; one that has been silent for half a minute is left out.
#[utoipa::path(
    get,
    path = "/api/circuit-breakers",
    tag = "operations",
    responses(
        (
            status = 200,
            description = "All circuit breakers",
            body = CircuitBreakerList,
            example = json!(whole(&example()))
        ),
        Problems
    )
)]
pub(crate) async fn list_circuit_breakers(
    State(state): State<ApiState>,
    Query(()): Query<()>,
) -> Result<JsonResponse, Problem> {
    JsonResponse::ok(&CircuitBreakerList::whole(breaker_reports::list(state.pool()).await?))
}

fn example() -> Value {
    json!({
        "dependency": "smtp",
        "state": "open",
        "failures": 7,
        "opened_at": "2026-11-22T10:00:00Z",
        "next_probe_at": "2026-11-22T10:00:20Z",
        "settings": {"failures": 5, "open_ms": 10000, "probes": 1},
        "process_id": "0199f3a0-3333-7333-8444-555566667777",
        "process": "work",
        "changed_at": "2026-11-22T10:00:10Z",
        "seen_at": "2026-11-22T10:00:12Z"
    })
}
