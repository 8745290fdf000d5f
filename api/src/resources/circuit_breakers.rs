//! Circuit breakers of all processes.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use shop::breaker_reports::{self, ReportedBreaker};
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
    Dependency,
    "An external service with circuit breakers: `smtp`, `redis` or `amqp`. More may be added.",
    breakers::Dependency::ALL
);
documented_enum!(
    CircuitBreakerState,
    "`closed`: calls are made; `open`: no calls are made; `half_open`: one trial call at a time is made.",
    breakers::BreakerState::ALL
);

/// The circuit breaker of one dependency in one process, as reported within the last 30 seconds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CircuitBreaker {
    #[schema(value_type = Dependency)]
    pub(crate) dependency: String,
    #[schema(value_type = CircuitBreakerState)]
    pub(crate) state: &'static str,
    /// Consecutive failures.
    pub(crate) failures: i64,
    /// When the breaker opened.
    pub(crate) opened_at: Option<DateTime<Utc>>,
    /// When the next trial call is made; work that waits follows if it succeeds.
    pub(crate) next_probe_at: Option<DateTime<Utc>>,
    pub(crate) settings: CircuitBreakerSettings,
    /// The process; each has breakers of its own.
    pub(crate) process_id: Uuid,
    /// The kind of process, such as `work`.
    pub(crate) process: String,
    /// When the state last changed.
    pub(crate) changed_at: DateTime<Utc>,
    /// When the process last reported.
    pub(crate) seen_at: DateTime<Utc>,
}

list!(CircuitBreakerList of CircuitBreaker, "All circuit breakers.", "Always `null`: the list has no pages.");

/// The settings of a circuit breaker.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CircuitBreakerSettings {
    /// Consecutive failures that open the breaker.
    pub(crate) failures: i64,
    /// How long no calls are made after that, in milliseconds.
    pub(crate) open_ms: i64,
    /// Consecutive successful trial calls that close it.
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
/// The circuit breakers of every running process, by dependency. A process reports its breakers when one changes, and
/// every few seconds; a process that has not reported for 30 seconds is left out.
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
    _: NoQuery,
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
