//! The recorder behind `/metrics`.

use anyhow::Context;
use metrics::Unit;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_appender::non_blocking::ErrorCounter;

/// From half a millisecond to half a minute: a fused saga takes about the first, a time-out the last.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Lifetimes of sagas: a fused saga takes a millisecond, one whose mail server is down takes hours.
const LIFETIMES: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
    3600.0, 21_600.0, 86_400.0,
];
/// How many sagas share a commit.
const SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

const BUILD: &str = "sagaline_build_info";
/// The commit that this binary was built from, if the build knew it.
const REVISION: &str = match option_env!("SAGALINE_REVISION") {
    Some(revision) if !revision.is_empty() => revision,
    Some(_) | None => "unknown",
};
pub(crate) const POOL_WAIT: &str = "sagaline_db_pool_acquire_seconds";
pub(crate) const POOL_FAILURES: &str = "sagaline_db_pool_acquire_failures_total";
const LINES_DROPPED: &str = "sagaline_log_lines_dropped_total";

/// Installs the recorder and describes what this process may record.
pub(super) fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_size".into()), SIZES))
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full("sagaline_saga_duration_seconds".into()), LIFETIMES)
        })
        .and_then(PrometheusBuilder::install_recorder)
        .context("can't install the recorder of metrics")?;
    describe_metrics();
    metrics::gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION"), "revision" => REVISION).set(1.0);
    Ok(handle)
}

/// Updates the counter of lines that the log files lost.
pub(super) fn count_lost(lost: &ErrorCounter) {
    metrics::counter!(LINES_DROPPED).absolute(lost.dropped_lines() as u64);
}

/// Describes every metric of every crate to the recorder. A metric that is not described here must not be recorded; a
/// test checks the sources, the dashboard and the alert rules.
pub fn describe_metrics() {
    api::describe_metrics();
    breakers::describe_metrics();
    engine::describe_metrics();
    workers::describe_metrics();
    shop::describe_metrics();
    shop::pruning::describe_metrics();
    metrics::describe_gauge!(BUILD, "Always 1; the labels name the build");
    metrics::describe_histogram!(
        POOL_WAIT,
        Unit::Seconds,
        "How long a database connection took to be had, sampled once a second"
    );
    metrics::describe_counter!(
        POOL_FAILURES,
        Unit::Count,
        "Samples that got no database connection before the pool's time-out"
    );
    metrics::describe_counter!(
        LINES_DROPPED,
        Unit::Count,
        "Log lines that the log files lost because the disk was too slow"
    );
    metrics::counter!(POOL_FAILURES).absolute(0);
}
