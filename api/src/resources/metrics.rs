//! GET `/metrics`.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::header;
use metrics_process::Collector;

use crate::{http::documented::problems, state::ApiState};

problems!(Problems: &[]);

/// Read metrics
///
/// Returns metrics in Prometheus' text format: requests, steps, sagas by definition and status, queue depth and age,
/// circuit breakers, the outbox, the connection pool and the process. Metrics of queues, sagas and the outbox are read
/// from the database at most once a second; while it can't be reached they keep their values.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses(
        (
            status = 200,
            description = "The metrics",
            body = String,
            content_type = "text/plain; version=0.0.4",
            example = "sagaline_queue_depth{queue=\"default\",state=\"due\"} 0\n"
        ),
        Problems
    )
)]
pub(crate) async fn get_metrics(State(state): State<ApiState>) -> Response {
    state.gauges().refresh().await;
    Collector::default().collect();
    state.metrics().run_upkeep();
    let text = state.metrics().render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
